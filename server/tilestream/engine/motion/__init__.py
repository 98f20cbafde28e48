"""What moved between two frames, and what that leaves unexplained."""

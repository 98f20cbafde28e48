"""What decides which bins of a frame are computed, and what gates are told."""

"""What a session keeps between its frames."""

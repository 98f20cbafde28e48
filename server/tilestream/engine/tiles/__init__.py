"""Partial frames: the kept tiles of all sessions of a step, gathered, computed and scattered as one batch."""

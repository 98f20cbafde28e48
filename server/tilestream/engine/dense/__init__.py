"""Whole frames: the network in full, as fast as the device runs it."""

"""The engine whose sessions live on the device: state in slots, one batch of all sessions."""

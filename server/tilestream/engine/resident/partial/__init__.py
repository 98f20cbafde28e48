"""Partial frames of all sessions at once, features and index tables on the device."""

"""Settings of the resident engine's tests."""

from support.one_thread import one_thread  # noqa: F401

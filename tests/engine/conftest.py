"""Settings of the engine's tests."""

from support.one_thread import one_thread  # noqa: F401

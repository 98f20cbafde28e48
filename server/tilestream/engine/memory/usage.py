"""How much of the memory for sessions is in use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """``pages``: of features, and slots. ``evictions``: of sessions, to make room for others."""

    bytes: int = 0
    limit_bytes: int = 0
    pages: int = 0
    limit_pages: int = 0
    evictions: int = 0

    def __add__(self, other: MemoryUsage) -> MemoryUsage:
        """Of both."""
        return MemoryUsage(
            self.bytes + other.bytes,
            self.limit_bytes + other.limit_bytes,
            self.pages + other.pages,
            self.limit_pages + other.limit_pages,
            self.evictions + other.evictions,
        )

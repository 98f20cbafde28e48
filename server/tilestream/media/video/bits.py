"""Bits of a NAL unit's payload."""

from __future__ import annotations

_MAX_ZEROS = 32  # in front of an Exp-Golomb number: more than any field of a header may have


class OutOfBits(ValueError):  # noqa: N818 (the name says it)
    """A header ends too early, or holds a number that no header holds."""


class Bits:
    """Reads the numbers of a header, most significant bit first. Raises :class:`OutOfBits`."""

    def __init__(self, payload: bytes) -> None:
        """``payload``: without the bytes that keep it from looking like a start code, see ``unescaped``."""
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def u(self, count: int) -> int:
        """An unsigned number of ``count`` bits."""
        if count > self._left:
            raise OutOfBits("the header ends too early")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        """One bit."""
        return bool(self.u(1))

    def ue(self) -> int:
        """An unsigned Exp-Golomb number."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > _MAX_ZEROS:
                raise OutOfBits("a number of a header is too large")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def unescaped(payload: bytes) -> bytes:
    """A NAL unit's payload without its emulation prevention: 00 00 03 stands for 00 00."""
    return payload.replace(b"\0\0\x03", b"\0\0")

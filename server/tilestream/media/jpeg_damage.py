"""Which warnings of libjpeg are damage. A picture with such a one is not taken, whatever it would look like.

libjpeg warns and fills the rest with gray, which a segmentation must not be computed from. The others concern
headers and change no pixel: ``jpeg_clean`` takes away what they are about before anything is decoded, so that
they hide no damage.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilestream.messages import InvalidReason


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning, by what its text always has; ``damage``: the reason that is answered, None: it is none."""

    name: str
    text: str
    damage: InvalidReason | None


WARNINGS = (
    Warned("JWRN_HIT_MARKER", "premature end of data segment", InvalidReason.TRUNCATED),
    Warned("JWRN_JPEG_EOF", "premature end of jpeg file", InvalidReason.TRUNCATED),
    Warned("JWRN_HUFF_BAD_CODE", "bad huffman code", InvalidReason.CORRUPT),
    Warned("JWRN_MUST_RESYNC", "instead of rst", InvalidReason.CORRUPT),
    Warned("JWRN_BOGUS_PROGRESSION", "inconsistent progression sequence", InvalidReason.CORRUPT),
    Warned("JWRN_EXTRANEOUS_DATA", "extraneous bytes before marker", InvalidReason.CORRUPT),  # behind a scan
    Warned("JWRN_NOT_SEQUENTIAL", "invalid sos parameters for sequential jpeg", None),
    Warned("JWRN_JFIF_MAJOR", "unknown jfif revision number", None),
    Warned("JWRN_ADOBE_XFORM", "unknown adobe color transform code", None),
    Warned("JWRN_BOGUS_ICC", "bad icc marker", None),
)
"""All but two: JWRN_ARITH_BAD_CODE, since such pictures are not taken, and JWRN_TOO_MUCH_DATA of encoders."""


def reason_for(text: str) -> InvalidReason:
    """Of what a decoder says: a warning, or an error, which is always damage."""
    words = text.lower()
    found = (each.damage for each in WARNINGS if each.damage is not None and each.text in words)
    return next(found, InvalidReason.CORRUPT)

"""What is too much for one access unit, told from its headers before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from tilestream.media.errors import BadFrame
from tilestream.media.jpeg import FrameLimits
from tilestream.media.video.headers import SequenceHeader, UnitHeader
from tilestream.messages import Codec, InvalidReason

# Seconds of a core at about 2.5 GHz: to copy blocks of another picture, and to read bits of the densest intra
# pictures. The slowest of what x264 and x265 make took these; twice as slow a core takes twice as long.
_SECONDS_PER_PIXEL = {Codec.H264: 4e-9, Codec.H265: 6.5e-9}
_SECONDS_PER_BYTE = {Codec.H264: 110e-9, Codec.H265: 70e-9}
_PADDING = 64  # coded sizes are multiples of up to this, pixels
_SPARE_PICTURES = 2  # the one that is being decoded, and one that was handed out


@dataclass(frozen=True, slots=True)
class UnitLimits:
    """``frame``: as for any frame. ``max_decoder_bytes``: of the pictures that a decoder keeps."""

    frame: FrameLimits
    max_decoder_bytes: int = 256 << 20

    def check_bytes(self, data: bytes) -> None:
        """Raises :class:`BadFrame` where a unit is too long."""
        if len(data) > self.frame.max_bytes:
            text = f"{len(data)} bytes, at most {self.frame.max_bytes} are taken"
            raise BadFrame(InvalidReason.TOO_MANY_BYTES, text)

    def check(self, codec: Codec, unit: UnitHeader, size: int) -> None:
        """Raises :class:`BadFrame` where a unit of ``size`` bytes asks for too much."""
        for sequence in unit.sequences if unit.sequence is None else (*unit.sequences, unit.sequence):
            self._check_sequence(sequence)
        if unit.pictures > 2:
            raise BadFrame(InvalidReason.UNSUPPORTED, "more than one picture in an access unit")
        pixels = unit.sequence.coded_pixels * max(1.0, unit.coverage) if unit.sequence else 0
        seconds = pixels * _SECONDS_PER_PIXEL[codec] + size * _SECONDS_PER_BYTE[codec]
        if seconds > self.frame.max_seconds:
            text = (
                f"decoding would take a core about {seconds:.2g} s, at most {self.frame.max_seconds:g} are "
                "spent on a frame; send fewer slices, bits or pixels"
            )
            raise BadFrame(InvalidReason.TOO_COSTLY, text)

    def check_memory(self, sequence: SequenceHeader, reordered: int) -> None:
        """Raises :class:`BadFrame` where a decoder that holds so many pictures back needs too much memory."""
        pictures = sequence.references + reordered + _SPARE_PICTURES
        needed = round(pictures * sequence.coded_pixels * sequence.bytes_per_pixel)
        if needed > self.max_decoder_bytes:
            text = (
                f"a decoder of {pictures} pictures of {sequence.width} x {sequence.height} pixels takes "
                f"{needed} bytes, at most {self.max_decoder_bytes} may be; use fewer references or pixels"
            )
            raise BadFrame(InvalidReason.TOO_COSTLY, text)

    @property
    def most_coded_pixels(self) -> int:
        """Of a picture with the padding that codecs add."""
        return self.frame.max_pixels + 2 * _PADDING * self.frame.max_side + _PADDING**2

    def check_size(self, width: int, height: int) -> None:
        """Raises :class:`BadFrame` where a picture is too large."""
        if width * height > self.frame.max_pixels or max(width, height) > self.frame.max_side:
            text = (
                f"{width} x {height} pixels, at most {self.frame.max_pixels} pixels and "
                f"{self.frame.max_side} a side are taken"
            )
            raise BadFrame(InvalidReason.TOO_MANY_PIXELS, text)

    def _check_sequence(self, sequence: SequenceHeader) -> None:
        if sequence.width < 1 or sequence.height < 1:
            raise BadFrame(InvalidReason.CORRUPT, "the sequence parameter set crops all of the picture")
        self.check_size(sequence.width, sequence.height)
        if sequence.coded_pixels > self.most_coded_pixels:
            text = f"{sequence.coded_pixels} pixels are coded, of which most are cropped"
            raise BadFrame(InvalidReason.TOO_MANY_PIXELS, text)
        self.check_memory(sequence, 0)

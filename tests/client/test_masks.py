"""Masks survive their encodings, and damaged ones are told apart from good ones."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from fake_answers import encode_rle, varint
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tilestream_client import MaskError, masks

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
label_maps = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 255))
smooth_maps = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 3), fill=st.integers(0, 3))
PALETTE = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(label_maps | smooth_maps)
def test_png_round_trip(labels):
    height, width = labels.shape
    np.testing.assert_array_equal(masks.decode_png(masks.encode_png(labels, PALETTE), width, height), labels)


@settings(max_examples=40, deadline=None)
@given(label_maps | smooth_maps)
def test_rle_round_trip(labels):
    height, width = labels.shape
    np.testing.assert_array_equal(masks.decode_rle(encode_rle(labels), width, height), labels)


@settings(max_examples=20, deadline=None)
@given(label_maps)
def test_raw_round_trip(labels):
    height, width = labels.shape
    decoded = masks.decode_raw(labels.tobytes(), width, height)
    np.testing.assert_array_equal(decoded, labels)
    decoded[:] = 0  # the caller's own copy


@given(st.lists(st.integers(0, 2**35 - 1)))
def test_varints(numbers):
    data = b"".join(varint(number) for number in numbers)
    assert masks.decode_varints(data).tolist() == numbers


@given(st.binary(max_size=40), st.integers(1, 9), st.integers(1, 9))
def test_any_bytes_as_rle_are_a_mask_or_an_error(data, width, height):
    with contextlib.suppress(MaskError):
        assert masks.decode_rle(data, width, height).shape == (height, width)


@settings(max_examples=60, deadline=None)
@given(label_maps, st.data())
def test_damaged_png_is_a_mask_or_an_error(labels, data):
    encoded = bytearray(masks.encode_png(labels, PALETTE))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    with contextlib.suppress(MaskError):
        assert masks.decode_png(bytes(encoded[:cut]), *labels.shape[::-1]).shape == labels.shape


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",  # a label without a length
        b"\x01\x03",  # too few pixels
        b"\x01\x05",  # too many
        b"\x01\x00\x01\x04",  # an empty run
        b"\x80\x02\x04",  # label 256
        b"\x01\x84",  # cut off within a number
        b"\x01" + b"\xff" * 9 + b"\x01",  # beyond any picture
        b"\x01" + varint(2**34) + b"\x01" + varint(2**34),
    ],
)
def test_wrong_rle(data):
    with pytest.raises(MaskError):
        masks.decode_rle(data, 2, 2)


def test_png_of_four_bits_per_pixel_keeps_its_indices():
    """As small models' masks are sent: written by hand, since Pillow would choose the depth itself."""
    rows = [bytes([0, 0x01, 0x2A]), bytes([0, 0xB3, 0x40])]  # filter byte, then two pixels per byte
    png = b"\x89PNG\r\n\x1a\n"
    png += _chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 2, 4, 3, 0, 0, 0))
    png += _chunk(b"PLTE", PALETTE[:12].tobytes()) + _chunk(b"IDAT", zlib.compress(b"".join(rows)))
    png += _chunk(b"IEND", b"")
    assert masks.decode_png(png, 3, 2).tolist() == [[0, 1, 2], [11, 3, 4]]


def test_gray_png_is_taken_for_confidence_and_colour_is_not():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(masks.decode_png(_png(gray), 4, 3), gray)
    with pytest.raises(MaskError, match="RGB"):
        masks.decode_png(_png(np.zeros((3, 4, 3), np.uint8)), 4, 3)


def test_png_of_another_size_is_refused():
    with pytest.raises(MaskError, match=r"4x3.*5x3"):
        masks.decode_png(_png(np.zeros((3, 4), np.uint8)), 5, 3)


def test_raw_of_another_size_is_refused():
    with pytest.raises(MaskError):
        masks.decode_raw(b"12345", 2, 2)


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

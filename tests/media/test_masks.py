import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from support.fake_engine import fake_model
from support.frames import decode_png, decode_rle
from support.label_runs import label_maps, split
from tilestream.label_runs import LabelRuns
from tilestream.media.masks import MaskFormat, encode_mask, encode_png, encode_rle, resize_labels
from tilestream_client import masks as client

PALETTE = fake_model().palette
WIDE = [(i, 255 - i, i // 2) for i in range(256)]
small_labels = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 11)
)
any_labels = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20))


@given(small_labels)
def test_png_of_few_labels(labels):
    assert np.array_equal(decode_png(encode_png(labels, PALETTE), PALETTE), labels)


@given(any_labels)
def test_png_of_many_labels(labels):
    assert np.array_equal(decode_png(encode_png(labels, WIDE), WIDE), labels)


@given(any_labels)
def test_gray_png(plane):
    assert np.array_equal(cv2.imdecode(np.frombuffer(encode_png(plane, None), np.uint8), 0), plane)


def test_png_labels_beyond_the_palette_still_decode():
    labels = np.array([[0, 200]], np.uint8)
    image = cv2.imdecode(np.frombuffer(encode_png(labels, PALETTE), np.uint8), cv2.IMREAD_COLOR)
    assert image[0, 1].tolist() == [0, 0, 0]


def test_png_takes_labels_that_are_not_contiguous():
    labels = np.arange(12, dtype=np.uint8).repeat(50).reshape(20, 30)[:, ::2]
    assert np.array_equal(decode_png(encode_png(labels, PALETTE), PALETTE), labels)


@given(any_labels)
def test_rle(labels):
    data = encode_rle(labels)
    assert np.array_equal(decode_rle(data, labels.shape[1], labels.shape[0]), labels)


def test_rle_bytes_are_as_the_proto_says():
    labels = np.array([[5, 5, 5], [5, 200, 0]], np.uint8)
    assert encode_rle(labels) == bytes([5, 4, 0xC8, 0x01, 1, 0, 1])
    assert encode_rle(np.zeros((300, 1000), np.uint8)) == bytes([0, 0xE0, 0xA7, 0x12])


def test_rle_of_labels_and_lengths_of_every_size():
    lengths = [1, 127, 128, 129, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 5]
    values = np.array([0, 127, 128, 255, 1, 0, 1, 0, 200], np.uint8)
    labels = np.repeat(values, lengths).reshape(1, -1)
    assert np.array_equal(decode_rle(encode_rle(labels), labels.size, 1), labels)
    assert np.array_equal(client.decode_rle(encode_rle(labels), labels.size, 1), labels)


@given(label_maps, st.data())
def test_runs_are_encoded_to_the_bytes_of_their_map(labels, data):
    height, width = labels.shape
    runs = split(LabelRuns.of(labels), data)
    found = {}
    for form in MaskFormat:
        found[form] = encode_mask(runs, form, WIDE)
        assert found[form] == encode_mask(labels, form, WIDE)
    assert np.array_equal(client.decode_rle(found[MaskFormat.RLE], width, height), labels)
    assert np.array_equal(client.decode_png(found[MaskFormat.PNG], width, height), labels)
    assert np.array_equal(client.decode_raw(found[MaskFormat.RAW], width, height), labels)


@given(small_labels)
def test_a_png_says_the_same_to_every_reader(labels):
    data = encode_png(labels, PALETTE)
    assert np.array_equal(decode_png(data, PALETTE), labels)
    assert np.array_equal(client.decode_png(data, labels.shape[1], labels.shape[0]), labels)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == "P" and image.size == labels.shape[::-1]
        assert image.getpalette()[: 3 * len(PALETTE)] == [part for color in PALETTE for part in color]
        assert np.array_equal(np.asarray(image), labels)


@given(any_labels)
def test_raw(labels):
    data = encode_mask(labels, MaskFormat.RAW, PALETTE)
    assert np.array_equal(np.frombuffer(data, np.uint8).reshape(labels.shape), labels)


@pytest.mark.parametrize("size", [(20, 10), (7, 33), (1, 1), (40, 20)])
def test_resize_takes_labels_that_exist(size):
    labels = (np.arange(200, dtype=np.uint8).reshape(10, 20) // 50 * 3).astype(np.uint8)
    resized = resize_labels(labels, *size)
    assert resized.shape == (size[1], size[0])
    assert set(np.unique(resized)) <= set(np.unique(labels))


def test_doubling_repeats_every_label():
    labels = np.random.default_rng(0).integers(0, 12, (9, 11), dtype=np.uint8)
    assert np.array_equal(resize_labels(labels, 22, 18), labels.repeat(2, 0).repeat(2, 1))

"""The confusion matrix against counting one pixel after the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tilestream_training.metrics import ConfusionMatrix

CLASSES = 4


@st.composite
def frames(draw) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        truth = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 4, 255])))
        guess = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1)))
        pairs.append((truth, guess))
    return pairs


def naive_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    pixels = [(int(t), int(g)) for truth, guess in pairs for t, g in zip(truth.flat, guess.flat, strict=True)]
    pixels = [(t, g) for t, g in pixels if t < CLASSES]
    values = []
    for c in range(CLASSES):
        union = sum(t == c or g == c for t, g in pixels)
        values.append(sum(t == g == c for t, g in pixels) / union if union else math.nan)
    return values


@given(frames())
def test_against_counting(pairs) -> None:
    matrix = ConfusionMatrix(CLASSES)
    for truth, guess in pairs:
        matrix.add(truth, guess)
    expected = naive_iou(pairs)
    np.testing.assert_allclose(matrix.iou(), expected)
    occurring = [value for value in expected if not math.isnan(value)]
    if occurring:
        assert matrix.miou() == pytest.approx(sum(occurring) / len(occurring))
    else:
        assert math.isnan(matrix.miou())


@given(frames())
def test_order_and_grouping_do_not_matter(pairs) -> None:
    one, other = ConfusionMatrix(CLASSES), ConfusionMatrix(CLASSES)
    for truth, guess in pairs:
        one.add(truth, guess)
    flat = [np.concatenate([pair[i].reshape(1, -1) for pair in reversed(pairs)], axis=1) for i in (0, 1)]
    other.add(flat[0], flat[1])
    np.testing.assert_array_equal(one.counts, other.counts)


def test_perfect_and_empty() -> None:
    matrix = ConfusionMatrix(CLASSES)
    assert math.isnan(matrix.miou())
    truth = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    matrix.add(truth, np.where(truth == 255, 3, truth).astype(np.uint8))
    assert matrix.miou() == 1.0 and math.isnan(matrix.iou()[3])


def test_rows_are_the_truth() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(np.array([[0, 0, 1]], dtype=np.uint8), np.array([[1, 0, 1]], dtype=np.uint8))
    np.testing.assert_array_equal(matrix.counts, [[1, 1], [0, 1]])


def test_wrong_arguments() -> None:
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=r"truth is \(1, 2\) but prediction is \(2, 1\)"):
        matrix.add(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8))
    with pytest.raises(ValueError, match="prediction holds 255, but there are 2 classes"):
        matrix.add(np.zeros((1, 2), np.uint8), np.array([[0, 255]], np.uint8))
    matrix.add(np.array([[0, 255]], np.uint8), np.array([[0, 255]], np.uint8))  # where void, anything goes
    np.testing.assert_array_equal(matrix.counts, [[1, 0], [0, 0]])

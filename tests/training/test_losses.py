"""Losses against definitions written out the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tilestream_training import losses
from tilestream_training.datasets.base import IGNORE_LABEL

LABELS = st.lists(st.sampled_from([0, 1, 2, 3, IGNORE_LABEL]), min_size=12, max_size=12)


def label_map(values: list[int]) -> Tensor:
    return torch.tensor(values).view(1, 3, 4)


class TestClassWeights:
    @given(st.lists(st.integers(1, 10**9), min_size=2, max_size=11))
    def test_rarer_classes_weigh_more_within_the_limit(self, counts) -> None:
        weights = losses.class_weights(torch.tensor(counts))
        assert weights.dtype == torch.float32
        assert torch.isfinite(weights).all() and (weights > 0).all() and (weights <= 5.0).all()
        order = np.argsort(counts)
        assert (np.diff(weights.numpy()[order]) <= 1e-6).all()

    def test_values(self) -> None:
        counts = torch.tensor([400, 100])  # shares 0.8 and 0.2
        raw = [0.8**-0.5, 0.2**-0.5]
        mean = 0.8 * raw[0] + 0.2 * raw[1]
        torch.testing.assert_close(losses.class_weights(counts), torch.tensor([r / mean for r in raw]))
        assert torch.equal(losses.class_weights(counts, power=0.0), torch.ones(2))
        assert torch.equal(losses.class_weights(torch.tensor([7, 7, 7])), torch.ones(3))

    def test_absent_class_gets_the_limit(self) -> None:
        assert losses.class_weights(torch.tensor([10**6, 0]), limit=3.0)[1] == 3.0


class TestSampledLabels:
    @given(
        rows=st.integers(1, 5), columns=st.integers(1, 5), step_y=st.integers(1, 4), step_x=st.integers(1, 4),
        offset=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    )  # fmt: skip
    def test_every_kth_label_from_the_offset(self, rows, columns, step_y, step_x, offset) -> None:
        labels = torch.arange(2 * rows * step_y * columns * step_x).view(2, rows * step_y, columns * step_x)
        sampled = losses.sampled_labels(labels, (rows, columns), offset)
        assert sampled.shape == (2, rows, columns)
        for n in range(2):
            for y in range(rows):
                for x in range(columns):
                    source = labels[n, y * step_y + offset[0] % step_y, x * step_x + offset[1] % step_x]
                    assert sampled[n, y, x] == source


class TestCrossEntropy:
    def test_against_the_definition(self) -> None:
        logits = torch.randn(1, 4, 3, 4, generator=torch.Generator().manual_seed(0))
        labels = label_map([0, 1, 2, 3, 255, 0, 255, 2, 3, 1, 1, 0])
        weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
        probabilities = F.softmax(logits, dim=1)[0]
        total = weight = 0.0
        for y in range(3):
            for x in range(4):
                label = int(labels[0, y, x])
                if label != IGNORE_LABEL:
                    total -= float(weights[label]) * math.log(float(probabilities[label, y, x]))
                    weight += float(weights[label])
        assert float(losses.cross_entropy(logits, labels, weights)) == pytest.approx(total / weight, rel=1e-5)

    def test_void_pixels_get_no_gradient(self) -> None:
        logits = torch.zeros(1, 4, 3, 4, requires_grad=True)
        labels = label_map([IGNORE_LABEL] * 6 + [1] * 6)
        losses.cross_entropy(logits, labels, torch.ones(4)).backward()
        flat = logits.grad.abs().sum(dim=1).view(-1)
        assert (flat[:6] == 0).all() and (flat[6:] > 0).all()

    def test_void_alone_gives_zero_and_a_gradient(self) -> None:
        logits = torch.randn(1, 4, 3, 4, requires_grad=True)
        loss = losses.cross_entropy(logits, label_map([IGNORE_LABEL] * 12), torch.ones(4))
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert (logits.grad == 0).all()


class TestSoftDivergence:
    def test_is_the_mean_divergence_where_known(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits, teacher = (torch.randn(1, 3, 2, 2, generator=generator) for _ in range(2))
        target = teacher.softmax(dim=1)
        target[0, :, 1, 1] = 0  # beyond the still
        p, q = target[0, :, [0, 0, 1], [0, 1, 0]], logits.softmax(dim=1)[0, :, [0, 0, 1], [0, 1, 0]]
        expected = float((p * (p.log() - q.log())).sum() / 3)
        assert float(losses.soft_divergence(logits, target)) == pytest.approx(expected, rel=1e-5)

    def test_zero_for_equal_and_for_certain_targets_reached(self) -> None:
        logits = torch.randn(2, 5, 3, 4)
        assert float(losses.soft_divergence(logits, logits.softmax(dim=1))) == pytest.approx(0.0, abs=1e-6)
        certain = F.one_hot(torch.tensor([[[1, 0]]]), 2).permute(0, 3, 1, 2).float()
        assert float(losses.soft_divergence(certain * 200.0, certain)) == pytest.approx(0.0, abs=1e-6)

    def test_nothing_known_gives_zero_and_a_gradient(self) -> None:
        logits = torch.randn(1, 4, 3, 4, requires_grad=True)
        loss = losses.soft_divergence(logits, torch.zeros(1, 4, 3, 4))
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert (logits.grad == 0).all()


class TestDistillation:
    def test_zero_for_equal(self) -> None:
        logits = torch.randn(2, 5, 3, 4, requires_grad=True)
        loss = losses.distillation(logits, logits.detach().clone())
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
        assert logits.grad.abs().max() < 1e-6

    def test_zero_for_logits_that_differ_by_a_constant(self) -> None:
        logits = torch.randn(2, 5, 3, 4)
        assert float(losses.distillation(logits, logits + 3.0)) == pytest.approx(0.0, abs=1e-6)

    @given(st.integers(0, 2**31), st.floats(0.5, 8.0))
    @settings(max_examples=30, deadline=None)
    def test_is_the_mean_divergence(self, seed, temperature) -> None:
        generator = torch.Generator().manual_seed(seed)
        student, teacher = (torch.randn(1, 3, 2, 2, generator=generator).double() for _ in range(2))
        p, q = (F.softmax(t / temperature, dim=1) for t in (teacher, student))
        expected = float((p * (p.log() - q.log())).sum() / 4) * temperature**2
        found = float(losses.distillation(student, teacher, temperature))
        assert found >= 0 and found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def jaccard_loss(truth: set[int], mistaken: set[int]) -> float:
    """1 - IoU of a class when exactly the pixels in ``mistaken`` are predicted wrongly."""
    union = truth | mistaken
    return len(mistaken) / len(union) if union else 0.0


def naive_lovasz(logits: Tensor, labels: Tensor) -> float:
    """The Lovasz extension by its definition: marginal losses as mistakes join in the order of their size."""
    probabilities = F.softmax(logits.double(), dim=1)[0].reshape(logits.shape[1], -1).numpy()
    flat = labels.reshape(-1).tolist()
    pixels = [i for i, label in enumerate(flat) if label != IGNORE_LABEL]
    per_class = []
    for c in sorted({flat[i] for i in pixels}):
        truth = {i for i in pixels if flat[i] == c}
        errors = {i: abs((1.0 if i in truth else 0.0) - probabilities[c, i]) for i in pixels}
        mistaken: set[int] = set()
        total = 0.0
        for i in sorted(pixels, key=lambda i: -errors[i]):
            total += errors[i] * (jaccard_loss(truth, mistaken | {i}) - jaccard_loss(truth, mistaken))
            mistaken.add(i)
        per_class.append(total)
    return float(np.mean(per_class)) if per_class else 0.0


class TestLovasz:
    @given(LABELS, st.integers(0, 2**31))
    @settings(max_examples=60, deadline=None)
    def test_against_the_definition(self, values, seed) -> None:
        logits = torch.randn(1, 4, 3, 4, generator=torch.Generator().manual_seed(seed)) * 2
        labels = label_map(values)
        assert float(losses.lovasz_softmax(logits, labels)) == pytest.approx(
            naive_lovasz(logits, labels), abs=1e-5
        )

    @given(LABELS, st.lists(st.integers(0, 3), min_size=12, max_size=12))
    @settings(max_examples=60, deadline=None)
    def test_of_certain_predictions_is_one_minus_the_mean_iou(self, values, predicted) -> None:
        logits = F.one_hot(label_map(predicted), 4).permute(0, 3, 1, 2).float() * 200.0
        pixels = [(v, p) for v, p in zip(values, predicted, strict=True) if v != IGNORE_LABEL]
        present = {v for v, _ in pixels}
        ious = [
            sum(v == c == p for v, p in pixels) / sum(c in (v, p) for v, p in pixels) for c in sorted(present)
        ]
        expected = 1.0 - float(np.mean(ious)) if present else 0.0
        assert float(losses.lovasz_softmax(logits, label_map(values))) == pytest.approx(expected, abs=1e-5)

    def test_void_alone_gives_zero_and_a_gradient(self) -> None:
        logits = torch.randn(1, 4, 3, 4, requires_grad=True)
        loss = losses.lovasz_softmax(logits, label_map([IGNORE_LABEL] * 12))
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert (logits.grad == 0).all()

    def test_descends(self) -> None:
        logits = torch.zeros(1, 4, 3, 4, requires_grad=True)
        labels = label_map([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
        first = losses.lovasz_softmax(logits, labels)
        for _ in range(50):
            (gradient,) = torch.autograd.grad(losses.lovasz_softmax(logits, labels), logits)
            logits = (logits - 5.0 * gradient).detach().requires_grad_()
        assert losses.lovasz_softmax(logits, labels) < 0.5 * first

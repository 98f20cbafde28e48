"""Whole frames in buckets: the scores of the dense path, whatever else lies in the batch."""

import numpy as np
import pytest
import torch

from support.toy_networks import toy
from tilestream.engine.dense.executor import DenseExecutor
from tilestream.engine.resident import network, reference
from tilestream.engine.resident.captured import GraphPool
from tilestream.engine.resident.network import BatchedNetwork

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dense():
    return DenseExecutor(toy("dilated"), CPU, torch.float32)


@pytest.fixture
def batched(dense):
    module = toy("dilated")
    return BatchedNetwork(dense, reference, module.mean, module.std, GraphPool(CPU))


@pytest.mark.parametrize("size", [(32, 48), (30, 41)])
@pytest.mark.parametrize("rows", [[0], [4, 1], [3, 2, 1, 0, 4], [0] * 35])
def test_scores_are_those_of_the_dense_path(dense, batched, size, rows):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, *size, 3), dtype=np.uint8))
    _, expected = dense.scores([images[row] for row in rows])
    for _ in range(2):  # the second time with what the first one left in its input
        found = batched.scores(images.permute(0, 3, 1, 2), torch.tensor(rows))
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, atol=1e-4)


def test_scores_stay_as_they_are_when_the_next_batch_is_computed(batched):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 48), dtype=np.uint8))
    first = batched.scores(images, torch.tensor([0]))
    before = first.clone()
    batched.scores(images, torch.tensor([1]))
    assert torch.equal(first, before)


def test_few_batches_are_prepared_at_a_time(batched, monkeypatch):
    monkeypatch.setattr(network, "_PREPARED", 3)
    for width in range(8, 48, 8):
        batched.scores(torch.zeros((1, 3, 16, width), dtype=torch.uint8), torch.tensor([0]))
        assert len(batched._prepared) <= 3

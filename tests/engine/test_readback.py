"""What a step computed comes to the host together, and nothing waits for the device before that."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support.frames import photo
from support.networks import lively
from support.reuse_engines import Ask, run
from tilestream.engine import readback
from tilestream.engine.dense import executor as dense
from tilestream.engine.gates.rules import BudgetGate
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.readback import Readback
from tilestream.engine.tiles import executor

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero")
"""Operations after which the host has to know a value that a CUDA device has computed."""


class Watch(TorchDispatchMode):
    """Which operations ran that make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(index, torch.Tensor) and index.dtype is torch.bool
            for argument in args
            if isinstance(argument, list | tuple)
            for index in argument
        )
        if name in WAITS or by_mask:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_cuda(monkeypatch):
    """The code of other devices than the CPU, as far as a CPU can run it."""
    for module in (dense, executor):
        monkeypatch.setattr(module, "is_plain_upsampling", lambda node: False)


def test_maps_are_handed_over_in_order_and_in_shape():
    maps = [torch.randint(0, 255, shape, dtype=torch.uint8) for shape in ((2, 3), (4,), (0, 5, 5), (1, 2, 3))]
    seen = []
    waiting = Readback()
    waiting.add(maps[:2], lambda *arrays: seen.extend(arrays))
    waiting.add([], lambda *arrays: seen.append("nothing"))
    waiting.add(maps[2:], lambda *arrays: seen.extend(arrays))
    assert not seen
    waiting.fetch()
    assert seen.pop(2) == "nothing"
    assert all(torch.equal(found, tensor) for found, tensor in zip(seen, maps, strict=True))
    waiting.fetch()
    assert len(seen) == 4


def test_another_device_is_waited_for_once(monkeypatch):
    maps = [torch.randint(0, 255, shape, dtype=torch.uint8) for shape in ((2, 6, 4), (3, 4), (0, 5))]
    maps.append(maps[0][:, 1:4, :3])
    expected = [tensor.numpy().copy() for tensor in maps]

    copied = []
    monkeypatch.setattr(readback, "_on_host", lambda tensors: False)
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: copied.append(tensor) or tensor.clone())
    found = readback._fetched(maps)
    assert len(copied) == 1
    assert all(np.array_equal(ours.numpy(), theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["swiftnet_resnet18", "ddrnet23_slim"])
def test_nothing_waits_within_a_step(name, as_on_cuda):
    """Key frames of two sizes, partial frames with and without confidence, all in one step."""
    model = lively(name)
    options = ReuseOptions(dense_above=2.0, store_bytes=256 << 20)
    place = torch.device("cpu")
    gate = BudgetGate()
    engine = ModelEngine(model, place, torch.float32, model.mean, model.std, gate, options, DisMotion())
    mask = np.eye(2, 4, dtype=bool)

    def requests(index):
        keep = mask if index else None
        return [
            Ask("a", photo(250, 100, index), keep=keep),
            Ask("b", photo(256, 128, index + 7), keep=keep, confidence=True),
            Ask("c", photo(128, 64, index), whole=True),
            Ask("d", photo(64, 64, index), whole=True, retain=False),
        ]

    run(engine, requests(0))
    fetches = []
    original, compute, watch = Readback.fetch, ModelEngine._run, Watch()

    def watched(self, *arguments):  # all that the device does; what comes before is of the host alone
        with watch:
            return compute(self, *arguments)

    with (
        patch.object(Readback, "fetch", lambda self: (fetches.append(1), original(self))),
        patch.object(ModelEngine, "_run", watched),
    ):
        answers = run(engine, requests(1))
    assert [answer.stats.key_frame for answer in answers] == [False, False, True, True]
    assert (answers[1].confidence is not None) and len(fetches) == 1
    assert watch.waits == []

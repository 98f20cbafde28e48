"""The reuse engine on a CUDA device: the same results, and the host waits for the device once per step."""

import warnings

import numpy as np
import pytest
import torch

from support.networks import lively
from support.reuse_engines import Ask, run
from tilestream.engine.gates.rules import BudgetGate
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import NoMotion

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
OPTIONS = ReuseOptions(dense_above=2.0, store_bytes=256 << 20)


def engine(name, device, dtype):
    model = lively(name)
    gate = BudgetGate()
    return ModelEngine(model, torch.device(device), dtype, model.mean, model.std, gate, OPTIONS, NoMotion())


def picture(height, width, seed):
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8
    )
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))[:height, :width]


@pytest.mark.parametrize("name", ["swiftnet_resnet18", "ddrnet23_slim"])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-3), (torch.float16, 0.02)])
def test_partial_frames_are_those_of_the_cpu(name, dtype, share):
    ours, reference = engine(name, "cuda", dtype), engine(name, "cpu", torch.float32)
    mask = np.random.default_rng(0).random((2, 4)) < 0.5
    for index, keep in enumerate((None, mask, True, False)):
        request = Ask("s", picture(100, 250, index), keep=keep)
        (got,), (expected,) = run(ours, [request]), run(reference, [request])
        assert (got.labels != expected.labels).mean() <= share
        assert got.stats.units_computed == expected.stats.units_computed


def test_a_step_waits_for_the_device_once():
    ours = engine("swiftnet_resnet18", "cuda", torch.float16)
    mask = np.eye(2, 4, dtype=bool)

    def mixed(index):
        keep = mask if index else None
        return [
            Ask("partial", picture(128, 256, index), keep=keep),
            Ask("confidence", picture(120, 250, index), keep=keep, confidence=True),
            Ask("key", picture(64, 128, index), whole=True),
            Ask("forgotten", picture(128, 128, index), whole=True, retain=False),
        ]

    for index in range(3):
        run(ours, mixed(index))
    # Not by a profiler: that waits for the device itself.
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            run(ours, mixed(9))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [each for each in found if "synchronizing CUDA operation" in str(each.message)]
    assert len(waits) <= 1, [f"{each.filename}:{each.lineno}" for each in waits]

"""On a CUDA device: the results of the CPU, and nothing waits for the device."""

import contextlib

import numpy as np
import pytest
import torch

from support.frames import photo
from support.resident_features import random_flow, random_keep, resident, slot_maps, stacked_pixels
from support.reuse_engines import CPU, make_engine, worst_difference
from tilestream.engine.resident.partial.features import ResidentFeatures

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
SIZE, SLOTS = (100, 250), 3


@contextlib.contextmanager
def no_wait():
    """An operation that waits for the device raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["swiftnet_resnet18", "ddrnet23_slim"])
@pytest.mark.parametrize(
    ("dtype", "far", "wrong"), [(torch.float32, 1e-3, 1e-3), (torch.float16, 0.03, 0.02)]
)
@pytest.mark.parametrize(("by_unit", "graphs"), [(False, 0), (True, 0), (False, 4)])
def test_partial_frames_are_those_of_the_cpu(name, dtype, far, wrong, by_unit, graphs, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    engine, random = make_engine(name), np.random.default_rng(0)
    places = [(CPU, torch.float32), (torch.device("cuda"), dtype)]
    both = []
    for device, precision in places:
        shared = resident(engine.program, name, device=device, dtype=precision)
        both.append(ResidentFeatures(shared, SIZE, SLOTS, graphs=graphs if device.type == "cuda" else 0))
    slots = list(range(SLOTS))
    kept, _ = engine.dense.scores([torch.from_numpy(photo(SIZE[1], SIZE[0], slot)) for slot in slots])
    for features, (device, _) in zip(both, places, strict=True):
        features.start(slots, {name: maps.to(device) for name, maps in kept.items()})
    for seed in range(5):
        if graphs:  # steps of one layout
            random = np.random.default_rng(0)
        keep = random_keep(random, SLOTS, len(engine.program.units), both[0].bins, 0.4, by_unit)
        pixels = stacked_pixels([photo(SIZE[1], SIZE[0], 10 * seed + slot) for slot in slots])
        flow = random_flow(np.random.default_rng(seed), (SLOTS, *SIZE, 2), 2.0)
        labels = []
        for features, (device, _) in zip(both, places, strict=True):
            here, moved = pixels.to(device), flow.to(device)
            # what is made once may wait
            with no_wait() if seed > 2 and device.type == "cuda" else contextlib.nullcontext():
                features.move(slots, moved, 1)
                computed = features.run(features.plan(slots, keep), here)
            labels.append(computed.labels.cpu())
        assert (labels[0] != labels[1]).float().mean() <= wrong
        for slot in slots:
            assert worst_difference(slot_maps(both[1], slot), slot_maps(both[0], slot)) < far

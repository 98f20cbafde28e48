"""The engines on a CUDA device: the same results as on the CPU, and the host hardly waits for the device."""

import warnings
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
import torch

from support.networks import lively
from support.resident import make_resident, pan
from support.reuse_engines import Ask, run
from tilestream.engine.gates.rules import BudgetGate
from tilestream.engine.model_engine import ModelEngine, ReuseOptions
from tilestream.engine.motion.estimators import NoMotion
from tilestream.engine.resident import engine as resident_engine
from tilestream.engine.resident.captured import GraphPool
from tilestream.label_runs import label_map

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
    with waits_for_the_device() as waits:
        run(ours, mixed(9))
    assert len(waits) <= 1, waits


@contextmanager
def waits_for_the_device():
    """A list of the places where the host waited meanwhile: for an event, or by an operation that has to."""
    waits = []
    wait = torch.cuda.Event.synchronize

    def waited(event):
        waits.append("event")
        wait(event)

    # Not by a profiler: that waits for the device itself.
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with (
            warnings.catch_warnings(record=True) as found,
            mock.patch.object(torch.cuda.Event, "synchronize", waited),
        ):
            warnings.simplefilter("always")
            yield waits
    finally:
        torch.cuda.set_sync_debug_mode("default")
    operations = [each for each in found if "synchronizing CUDA operation" in str(each.message)]
    waits += [f"{each.filename}:{each.lineno}" for each in operations]


# The resident engine


class Eager(GraphPool):
    """Has no graphs."""

    captures = False


def resident(device, dtype=torch.float32, gate="every_k", **options):
    return make_resident("swiftnet_resnet18", gate, device=torch.device(device), dtype=dtype, **options)


def alike(got, expected):
    return float((label_map(got.labels) == label_map(expected.labels)).mean())


def steps(sessions=3, frames=8):
    """What is asked in steps, of sessions that come one by one, of two sizes, with confidence and without."""
    clips = [pan(frames, *((96, 160) if index % 2 else (128, 128)), seed=index) for index in range(sessions)]
    return [
        [
            Ask(f"s{index}", clip[step], budget=0.3, keep=step % 3 == index % 3, confidence=index == 0)
            for index, clip in enumerate(clips)
            if step >= index
        ]
        for step in range(frames)
    ]


def test_the_resident_engine_labels_as_on_the_cpu():
    ours, reference = resident("cuda"), resident("cpu")
    for asked in steps():
        for got, expected in zip(run(ours, asked), run(reference, asked), strict=True):
            assert got.stats.whole == expected.stats.whole
            assert alike(got, expected) >= 0.995
            assert np.allclose(got.bins.distortion, expected.bins.distortion, atol=0.5)
            if expected.confidence is not None:
                assert np.abs(got.confidence.astype(int) - expected.confidence).mean() < 1.0


def test_graphs_do_as_the_operations_that_they_are_of():
    with mock.patch.object(resident_engine, "GraphPool", Eager):
        eager = resident("cuda")
    ours = resident("cuda")
    for asked in steps(frames=12):
        for got, expected in zip(run(ours, asked), run(eager, asked), strict=True):
            assert got.stats.whole == expected.stats.whole
            assert alike(got, expected) >= 0.999
            assert np.allclose(got.bins.distortion, expected.bins.distortion, atol=0.05)
    captured = [work for _, work in ours._computer._network._prepared.values()]
    captured += [each.look for each in ours._observer._prepared.values()]
    assert any(work._graph is not None for work in captured)


@pytest.mark.parametrize("sessions", [3, 20])
def test_a_resident_step_waits_for_the_device_twice(sessions):
    ours = resident("cuda", torch.float16)
    image = pan(12, 96, 160)
    decoded = {}
    ours._decode = lambda pictures: [decoded[id(picture.pixels)] for picture in pictures]
    for array in image:
        decoded[id(array)] = torch.from_numpy(array).permute(2, 0, 1).cuda()
    for index in range(12):
        asked = [
            Ask(f"s{n}", image[index], budget=0.3, keep=(index + n) % 4 == 0, confidence=n == 1)
            for n in range(sessions)
        ]
        if index < 11:
            run(ours, asked)
    with waits_for_the_device() as waits:
        run(ours, asked)
    assert len(waits) <= 2, waits


def test_the_resident_engine_forgets_nothing_when_its_tables_grow():
    ours, reference = resident("cuda"), resident("cpu")
    clip = pan(10, 64, 96)
    for index, image in enumerate(clip):
        sessions = (1, 1, 1, 1, 9, 1, 1, 20, 1, 1)[index]
        asked = [Ask(f"s{n}", image, budget=0.01, keep=False) for n in range(sessions)]
        for got, expected in zip(run(ours, asked), run(reference, asked), strict=True):
            assert alike(got, expected) >= 0.99

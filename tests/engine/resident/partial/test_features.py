"""The partial pass on features in slots is the one on the host; memory is bounded and given up softly."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from support.frames import photo
from support.resident_features import (
    SideBySide,
    check_labels,
    random_flow,
    random_keep,
    resident,
    slot_maps,
    stacked_pixels,
)
from support.reuse_engines import (
    EVERY_NETWORK,
    SHIPPED,
    bin_size,
    expected_maps,
    lost_by_labels,
    make_engine,
    module_logits,
    network,
    worst_difference,
)
from support.toy_networks import TOYS
from tilestream.engine.resident.partial import executor, fused
from tilestream.engine.resident.partial.features import ResidentFeatures

FP32 = 1e-5  # relative


def started(name, size, slots=2, **options):
    """Features of ``slots`` sessions, each of a whole frame of its own."""
    engine = make_engine(name)
    features = ResidentFeatures(resident(engine.program, name), size, slots, **options)
    begin(engine, features, range(slots))
    return engine, features


def begin(engine, features, slots):
    height, width = features.size
    images = [torch.from_numpy(photo(width, height, slot)) for slot in slots]
    return features.start(list(slots), engine.dense.scores(images)[0])


def step(features, slots, images, keep):
    plan = features.plan(slots, keep)
    return plan, features.run(plan, stacked_pixels(images))


def everything(features, frames):
    return np.ones((frames, len(features.shared.program.units), *features.bins), dtype=np.bool_)


@pytest.mark.parametrize("name", TOYS)
@settings(max_examples=4)
@given(
    height=st.integers(9, 60),
    width=st.integers(9, 90),
    sessions=st.integers(1, 4),
    by_unit=st.booleans(),
    moving=st.booleans(),
    seed=st.integers(0, 99),
)
def test_partial_frames_are_those_of_the_host(name, height, width, sessions, by_unit, moving, seed):
    if name == "borders":  # reflects by two, which takes three
        height, width = max(height, 20), max(width, 20)
    pair = SideBySide(name, (height, width), sessions, seed)
    for share in (0.2, 0.6, 0.3):
        pair.step(share, by_unit, speed=3.0 * moving)
        assert pair.worst_difference() < FP32


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("by_unit", [False, True])
def test_partial_frames_of_shipped_networks_are_those_of_the_host(name, by_unit):
    pair = SideBySide(name, (150, 200), 2, 0)
    for share in (0.5, 0.3):
        pair.step(share, by_unit, speed=4.0)
        assert pair.worst_difference() < FP32


@pytest.mark.parametrize("name", EVERY_NETWORK)
def test_all_bins_kept_is_the_module(name):
    scale = bin_size(name) // 16
    height, width = 29 * scale, 37 * scale
    engine, features = started(name, (height, width))
    images = [photo(width, height, 50 + slot) for slot in (1, 0)]
    _, computed = step(features, [1, 0], images, everything(features, 2))
    side = engine.program.bin_size
    for index, (slot, image) in enumerate(zip((1, 0), images, strict=True)):
        expected = expected_maps(engine.program, network(name), image)
        assert worst_difference(slot_maps(features, slot), expected) < FP32
        rows, columns = features.bins
        tiles = computed.labels[computed.tiles.host.session == index].view(rows, columns, side, side)
        labels = tiles.permute(0, 2, 1, 3).reshape(rows * side, columns * side)[:height, :width]
        logits = module_logits(network(name), engine.program.stride, image)
        assert lost_by_labels(labels.numpy(), logits) < FP32


@pytest.mark.parametrize("name", ["pooled", "excited"])
def test_copying_features_together_changes_nothing(name):
    spread, together = (SideBySide(name, (40, 70), 3, 5, pages_per_tile=pages) for pages in (99.0, 1.0))
    for _ in range(4):
        for pair in (spread, together):
            pair.step(0.4, speed=2.0)
        for slot in spread.slots:
            assert worst_difference(slot_maps(together.features, slot), slot_maps(spread.features, slot)) == 0
    ledgers = [pair.features.shared.pages.ledger for pair in (spread, together)]
    assert ledgers[1].capacity - ledgers[1].available == 3 * spread.features.tiles
    assert ledgers[0].available < ledgers[1].available


def test_a_frame_computed_in_full_needs_no_more_pages():
    _, features = started("pooled", (40, 70), slots=1)
    before = features.shared.pages.ledger.available
    for seed in range(3):
        step(features, [0], [photo(70, 40, seed)], everything(features, 1))
        assert features.shared.pages.ledger.available == before


@pytest.mark.parametrize("by_unit", [False, True])
def test_a_session_does_not_see_the_others(by_unit):
    """Sessions of two sizes that share memory, and steps in another company each time."""
    engine = make_engine("pooled")
    random = np.random.default_rng(3)
    shared = resident(engine.program, "pooled")
    large, small = (ResidentFeatures(shared, size, 4) for size in ((40, 70), (30, 33)))
    alone = ResidentFeatures(resident(engine.program, "pooled"), (40, 70), 4)
    for features in (large, small, alone):
        begin(engine, features, range(4))
    for seed in range(4):
        keep = random_keep(random, 4, len(engine.program.units), large.bins, 0.4, by_unit)
        images = [photo(70, 40, 10 * seed + slot) for slot in range(4)]
        flow = random_flow(random, (4, 40, 70, 2), 2.0)
        company = [0, *(int(slot) for slot in random.permutation(3)[:seed] + 1)]
        mine = []
        for features, slots in ((large, company), (alone, [0])):
            features.move(slots, flow[slots], 1)
            _, computed = step(features, slots, [images[slot] for slot in slots], keep[slots])
            mine.append(computed.labels[computed.tiles.host.session == 0])
        other = random_keep(random, 4, len(engine.program.units), small.bins, 0.5, by_unit)
        step(small, [3, 1, 0, 2], [photo(33, 30, seed + slot) for slot in range(4)], other)
        assert torch.equal(*mine)
        assert worst_difference(slot_maps(large, 0), slot_maps(alone, 0)) < 1e-6


def test_sessions_give_way_softly():
    engine = make_engine("pooled")
    probe = ResidentFeatures(resident(engine.program, "pooled"), (40, 70), 4)
    page_bytes = probe.shared.pages.page_bytes
    room = int(2.5 * probe.tiles + 1) * page_bytes  # for two slots, and half a frame more
    features = ResidentFeatures(resident(engine.program, "pooled", max_bytes=room), (40, 70), 4)
    assert begin(engine, features, [0, 1]) == []
    assert begin(engine, features, [2]) == []  # the longest unused gives way
    assert [features.has(slot) for slot in range(4)] == [False, True, True, False]
    assert begin(engine, features, [0, 1, 3]) == [3]
    assert [features.has(slot) for slot in range(4)] == [True, True, False, False]
    kept = slot_maps(features, 0)
    plan, computed = step(features, [1, 0], [photo(70, 40, 1)] * 2, everything(features, 2))
    assert plan.refused == [0, 1]
    assert computed.labels.shape == (0, 16, 16)
    assert worst_difference(slot_maps(features, 0), kept) == 0
    plan, computed = step(features, [0], [photo(70, 40, 1)], everything(features, 1))
    assert not plan.refused
    assert len(computed.labels) == features.tiles
    assert features.shared.evictions == 4 - 1
    with pytest.raises(ValueError, match="have no features"):
        features.plan([2], everything(features, 1))
    for _ in range(2):
        features.release(0)
        features.release(1)
    ledger = features.shared.pages.ledger
    assert ledger.available == ledger.capacity


@pytest.mark.parametrize("name", ["pooled", "ladder"])
def test_it_does_not_matter_how_many_tiles_are_gathered_at_a_time(name, monkeypatch):
    (_, all_at_once), (_, few) = (started(name, (40, 70)) for _ in range(2))
    keep = random_keep(np.random.default_rng(0), 2, len(few.shared.program.units), few.bins, 0.8, True)
    images = [photo(70, 40, seed) for seed in range(2)]
    expected = all_at_once.run(all_at_once.plan([0, 1], keep), stacked_pixels(images), want_confidence=True)
    for module in (fused, executor):
        monkeypatch.setattr(module, "MOST_TILES", 3)
    computed = few.run(few.plan([0, 1], keep), stacked_pixels(images), want_confidence=True)
    assert torch.equal(computed.labels, expected.labels)
    assert torch.equal(computed.confidence, expected.confidence)
    for slot in range(2):
        assert worst_difference(slot_maps(few, slot), slot_maps(all_at_once, slot)) < FP32


@pytest.mark.parametrize("name", ["pooled", "excited"])
def test_warming_leaves_the_sessions_alone(name):
    warmed, plain = (started(name, (40, 70))[1] for _ in range(2))
    before, available = slot_maps(warmed, 1), warmed.shared.pages.ledger.available
    warmed.warm(3)
    assert worst_difference(slot_maps(warmed, 1), before) == 0
    assert warmed.shared.pages.ledger.available == available
    keep = random_keep(np.random.default_rng(0), 2, len(warmed.shared.program.units), warmed.bins, 0.5, True)
    for features in (warmed, plain):
        step(features, [0, 1], [photo(70, 40, seed) for seed in range(2)], keep)
    for slot in range(2):
        assert worst_difference(slot_maps(warmed, slot), slot_maps(plain, slot)) == 0


def test_confidence_comes_with_the_labels():
    _, features = started("pooled", (40, 70))
    image, keep = photo(70, 40, 1), everything(features, 1)
    plain = features.run(features.plan([0], keep), stacked_pixels([image]))
    sure = features.run(features.plan([1], keep), stacked_pixels([image]), want_confidence=True)
    assert plain.confidence is None
    assert sure.confidence is not None
    check_labels(sure, [_whole(plain, features)])
    assert sure.confidence.shape == sure.labels.shape
    assert sure.confidence.float().std() > 1


def _whole(computed, features):
    (rows, columns), side = features.bins, computed.labels.shape[1]
    tiles = computed.labels.view(rows, columns, side, side)
    return tiles.permute(0, 2, 1, 3).reshape(rows * side, columns * side).numpy()


class Operations(TorchDispatchMode):
    """Counts the torch operations, each of which is a launch on a GPU at most."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def counted(sessions, by_unit):
    """Torch operations and Python calls of a step in which all that can happen does."""
    engine, features = started("excited", (20, 40), sessions, pages_per_tile=1.0)
    slots = list(range(sessions))
    pixels = stacked_pixels([photo(40, 20, slot) for slot in slots])
    units, calls = len(engine.program.units), 0
    one = random_keep(np.random.default_rng(0), 1, units, features.bins, 0.5, by_unit)
    keep = np.repeat(one, sessions, axis=0)
    flow = torch.ones(sessions, 20, 40, 2)

    def called(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    def frame():
        features.move(slots, flow, 1)
        features.run(features.plan(slots, keep), pixels)

    frame()  # what is made once
    with Operations() as operations:
        frame()
    sys.setprofile(called)
    frame()
    sys.setprofile(None)
    return operations.count, calls


@pytest.mark.parametrize("by_unit", [False, True])
def test_work_of_the_host_does_not_grow_with_the_sessions(by_unit):
    alone, eight, many = (counted(sessions, by_unit) for sessions in (1, 8, 64))
    assert alone[0] == eight[0] == many[0]
    assert many[1] - alone[1] <= 20 * 63

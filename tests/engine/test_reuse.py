"""Sessions share an engine, its steps and its memory, and notice nothing of each other."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.frames import photo
from support.reuse_engines import (
    SHIPPED,
    Ask,
    Shift,
    bin_size,
    check_pages,
    expected_maps,
    kept_maps,
    lost_by_labels,
    make_engine,
    module_logits,
    network,
    run,
    same,
    step,
    worst_difference,
)
from support.toy_networks import TOYS
from tilestream.engine.motion.estimators import DisMotion
from tilestream.engine.motion.flow import Motion
from tilestream.engine.tiles.masks import stage_masks

FP32 = 1e-5

engine = cache(make_engine)
module = cache(network)


class Wandering:
    """Motion that is different everywhere, and the same for the same pair of frames."""

    def estimate(self, previous, current, expected, scale) -> Motion:
        flows = [self._flow(before, now) for before, now in zip(previous, current, strict=True)]
        return Motion(torch.stack(flows), torch.zeros(current.shape, dtype=torch.bool), scale)

    @staticmethod
    def _flow(before, now) -> torch.Tensor:
        random = np.random.default_rng(int(before.sum()) + 3 * int(now.sum()))
        flow = random.normal(0, 3, (*now.shape, 2)).astype(np.float32)
        if random.random() < 0.3:
            flow[...] = random.integers(-9, 10, 2)
        return torch.from_numpy(flow)


WANDERING = Wandering()


def some_units(tiled, image: np.ndarray, seed: int, share: float = 0.4) -> np.ndarray:
    bins = tiled.program.bins(*image.shape[:2])
    return np.random.default_rng(seed).random((len(tiled.program.units), *bins)) < share


def without_times(stats) -> tuple:
    return stats.key_frame, stats.units_computed, stats.units_total, stats.mean_distortion, stats.macs


# -- nothing kept --


@pytest.mark.parametrize("name", [*TOYS, *SHIPPED])
def test_nothing_kept_and_no_motion_is_the_previous_frame_bit_for_bit(name):
    tiled, scale = make_engine(name), bin_size(name) // 16
    width, height = 43 * scale, 29 * scale
    first = step(tiled, "camera", photo(width, height, 1), confidence=True)
    keep = some_units(tiled, photo(width, height, 2), 0)
    keep[:, 0, 0] = True
    second = step(tiled, "camera", photo(width, height, 2), keep=keep, confidence=True)
    assert not np.array_equal(first.confidence, second.confidence)
    before = kept_maps(tiled, "camera")
    for seed in (3, 4):
        answer = step(tiled, "camera", photo(width, height, seed), keep=False, confidence=True)
        assert np.array_equal(answer.labels, second.labels)
        assert np.array_equal(answer.confidence, second.confidence)
        assert same(kept_maps(tiled, "camera"), before)
        assert without_times(answer.stats)[:2] == (False, 0)
        assert answer.stats.macs == 0
        assert answer.stats.block_drop_rate == 1.0
    check_pages(tiled)


@pytest.mark.parametrize("name", ["pre-activated", "swiftnet_resnet18"])
def test_a_still_scene_does_not_move_by_its_optical_flow(name):
    tiled, size = make_engine(name, motion=DisMotion()), 2 * bin_size(name)
    image = photo(size, size, 1)
    first = step(tiled, "camera", image)
    before = kept_maps(tiled, "camera")
    again = step(tiled, "camera", image, keep=False)
    assert np.array_equal(first.labels, again.labels)
    assert same(kept_maps(tiled, "camera"), before)


@pytest.mark.parametrize("name", list(TOYS))
def test_nothing_kept_moves_everything_by_whole_features(name):
    tiled = make_engine(name, motion=Shift(16, -16))
    first = step(tiled, "camera", photo(80, 64, 1))
    before = kept_maps(tiled, "camera")
    answer = step(tiled, "camera", photo(80, 64, 2), keep=False)
    for node in tiled.program.kept:
        found = kept_maps(tiled, "camera")[node.name]
        tile = 16 // node.stride
        assert np.array_equal(found[:, tile:, :-tile], before[node.name][:, :-tile, tile:])
    assert np.array_equal(answer.labels[16:, :-16], first.labels[:-16, 16:])


@pytest.mark.parametrize("name", ["split", "shared"])
def test_a_scene_that_passes_by_is_reused_as_it_would_be_computed(name):
    """The camera turns by whole tiles: away from the frame's borders, what is moved is what is there now."""
    tiled = make_engine(name, motion=Shift(16, 0))
    scene = photo(300, 96, 1)
    frames = [scene[:, 16 * index : 16 * index + 192] for index in range(3)]
    step(tiled, "camera", frames[0])
    for image in frames[1:]:
        answer = step(tiled, "camera", image, keep=False)
        found, expected = kept_maps(tiled, "camera"), expected_maps(tiled.program, module(name), image)
        for node in tiled.program.kept:
            rim = 32 // node.stride
            inner = (slice(None), slice(rim, -rim), slice(rim, -2 * rim))
            difference = np.abs(found[node.name] - expected[node.name])[inner]
            assert difference.max() < FP32 * np.abs(expected[node.name]).max()
        logits = module_logits(module(name), tiled.program.stride, image)
        assert lost_by_labels(answer.labels[32:-32, 32:-64], logits[:, 32:-32, 32:-64]) < FP32


# -- something kept --


@pytest.mark.parametrize("name", [*TOYS, "swiftnet_resnet18"])
@pytest.mark.parametrize("shift", [(0, 0), (16, 0), (-16, 32)])
def test_a_dropped_unit_leaves_its_moved_previous_output(name, shift):
    """Exactly, whatever else is computed in that bin."""
    scale = bin_size(name) // 16
    tiled = make_engine(name, motion=Shift(shift[0] * scale, shift[1] * scale))
    previous, image = photo(80 * scale, 60 * scale, 1), photo(80 * scale, 60 * scale, 2)
    step(tiled, "camera", previous)
    before = kept_maps(tiled, "camera")
    keep = some_units(tiled, image, 5, 0.5)
    step(tiled, "camera", image, keep=keep)
    after = kept_maps(tiled, "camera")
    for index, unit in enumerate(tiled.program.units):
        tile = tiled.program.tile(tiled.program.nodes[unit.name].stride)
        values = before[unit.name]
        height, width = values.shape[1:]
        dx, dy = (side * tile // 16 for side in shift)
        rows = np.clip(np.arange(height) + dy, 0, height - 1)
        columns = np.clip(np.arange(width) + dx, 0, width - 1)
        moved = values[:, rows[:, None], columns]
        kept = keep[index].repeat(tile, axis=0).repeat(tile, axis=1)[:height, :width]
        assert (after[unit.name] == moved)[:, ~kept].all()


@pytest.mark.parametrize("name", ["pooled", "ddrnet23_slim"])
def test_costs_are_those_of_what_is_computed(name):
    tiled, size = make_engine(name), bin_size(name)
    previous, image = photo(3 * size, 2 * size, 1), photo(3 * size, 2 * size, 2)
    full = step(tiled, "camera", previous).stats
    per_bin = sum(stage.macs for stage in tiled.program.stages)
    assert full.macs == 6 * per_bin
    assert full.block_drop_rate == 0.0
    keep = np.zeros((2, 3), dtype=np.bool_)
    keep[0, 1] = keep[1, 2] = True
    answer = step(tiled, "camera", image, keep=keep)
    assert answer.stats.macs == 2 * per_bin
    assert answer.stats.units_total == 6 * len(tiled.program.units)
    assert answer.stats.units_computed == 2 * len(tiled.program.units)
    assert np.array_equal(answer.bins.units_computed, keep * len(tiled.program.units))
    last = np.zeros((len(tiled.program.units), 2, 3), dtype=np.bool_)
    last[-1, 0, 0] = True
    answer = step(tiled, "camera", image, keep=last)
    assert answer.stats.units_computed == 1
    assert 0 < answer.stats.macs < per_bin


@pytest.mark.parametrize("name", [*TOYS, *SHIPPED])
def test_only_what_is_new_and_read_is_computed(name):
    """With the last unit alone: that unit, and everything behind it."""
    program = engine(name).program
    keep = np.zeros((len(program.units), 2, 3), dtype=np.bool_)
    keep[-1, 1, 1] = True
    masks = stage_masks(program, keep)
    behind: set[str] = set()
    for stage, mask in zip(program.stages, masks, strict=True):
        new = stage.unit is None and not behind.isdisjoint(stage.reads)
        if new or stage.unit == len(program.units) - 1:
            behind.add(stage.output)
        assert np.array_equal(mask, keep[-1] if stage.output in behind else np.zeros_like(mask))
    assert program.output in behind


def test_bins_grow_older_until_they_are_computed():
    tiled = make_engine("split")
    keep = np.zeros((3, 5), dtype=np.bool_)
    keep[1, 2] = True
    step(tiled, "camera", photo(80, 48, 0))
    for age in (1, 2, 3):
        answer = step(tiled, "camera", photo(80, 48, 0), keep=keep)
        assert np.array_equal(answer.bins.age, np.where(keep, 0, age))
    assert (step(tiled, "camera", photo(80, 48, 0), whole=True).bins.age == 0).all()


def test_frames_that_keep_much_are_computed_in_full():
    tiled = make_engine("split", dense_above=0.5)
    step(tiled, "camera", photo(64, 64, 0))
    keep = np.zeros((4, 4), dtype=np.bool_)
    keep[:2] = True
    assert step(tiled, "camera", photo(64, 64, 1), keep=keep).stats.key_frame
    keep[0, 0] = False
    assert not step(tiled, "camera", photo(64, 64, 2), keep=keep).stats.key_frame


def test_a_frame_that_is_not_retained_leaves_nothing_behind():
    tiled = make_engine("split")
    first = step(tiled, "camera", photo(64, 64, 0))
    unretained = step(tiled, "camera", photo(64, 64, 0), retain=False)
    assert unretained.stats.key_frame and np.array_equal(unretained.labels, first.labels)
    assert tiled.features.store.usage().in_use == 0
    assert step(tiled, "camera", photo(64, 64, 0), keep=False).stats.key_frame  # nothing to reuse
    assert not step(tiled, "camera", photo(64, 64, 0), keep=False).stats.key_frame


def test_confidence_is_kept_up_while_nobody_asks_for_it():
    tiled = make_engine("split")
    always = make_engine("split")
    for seed, (key, asks) in enumerate(
        [(True, True), (False, False), (True, False), (False, False), (False, True)]
    ):
        image = photo(48, 48, seed)
        keep = np.random.default_rng(seed).random((3, 3)) < (0.5 if seed < 4 else 0)
        answer = step(tiled, "camera", image, whole=key, keep=keep, confidence=asks)
        assert (answer.confidence is not None) == asks
        expected = step(always, "camera", image, whole=key, keep=keep, confidence=True)
    assert np.array_equal(answer.confidence, expected.confidence)


def test_asking_for_confidence_the_first_time_takes_a_key_frame():
    tiled = make_engine("split")
    step(tiled, "camera", photo(48, 48, 1))
    answer = step(tiled, "camera", photo(48, 48, 2), keep=False, confidence=True)
    assert answer.stats.key_frame
    assert answer.confidence.shape == (48, 48)


# -- other sessions --


@pytest.mark.parametrize("name", [*TOYS, *SHIPPED])
def test_a_session_does_not_depend_on_who_shares_its_steps(name):
    """Mostly to the bit; kernels of grouped and transposed convolutions round by the number of tiles."""
    scale = bin_size(name) // 16
    together = make_engine(name, motion=Wandering())
    sizes = {"a": (48, 33), "b": (16, 16), "c": (48, 33), "d": (40, 64)}
    alone = {session: make_engine(name, motion=Wandering()) for session in ("a", "c")}
    for round_ in range(3):
        requests = []
        for index, (session, (width, height)) in enumerate(sizes.items()):
            image = photo(width * scale, height * scale, 10 * round_ + index)
            keep = some_units(together, image, round_ + index) if round_ else None
            requests.append(Ask(session, image, keep=keep, whole=not round_))
        answers = run(together, requests[round_:] + requests[:round_])
        answers = answers[len(sizes) - round_ :] + answers[: len(sizes) - round_]
        for request, answer in zip(requests, answers, strict=True):
            if request.session_id not in alone:
                continue
            single = run(alone[request.session_id], [request])[0]
            assert without_times(answer.stats) == without_times(single.stats)
            assert np.array_equal(answer.bins.distortion, single.bins.distortion)
            found, expected = (
                kept_maps(e, request.session_id) for e in (together, alone[request.session_id])
            )
            assert worst_difference(found, expected) < FP32
            assert (answer.labels != single.labels).mean() < 1e-3
        check_pages(together)


def test_optical_flow_of_one_session_does_not_disturb_another():
    together, alone = (make_engine("pooled", motion=DisMotion()) for _ in range(2))
    for seed in range(4):
        scene, other = photo(64 + seed, 48, 1)[:, seed:], photo(120, 90, seed)
        keep = np.zeros((3, 4), dtype=np.bool_)
        keep[1] = True
        for_both = Ask("a", scene, keep=keep)
        answer = run(together, [Ask("b", other, keep=False), for_both])[1]
        assert np.array_equal(answer.labels, run(alone, [for_both])[0].labels)


# -- memory --


def test_evicting_one_session_costs_it_a_key_frame_and_nobody_else():
    tiled, reference = make_engine("pooled"), make_engine("pooled")
    for session in ("a", "b"):
        for each in (tiled, reference):
            step(each, session, photo(40, 40, ord(session)))
    tiled.evict("a")
    tiled.evict("a")
    tiled.evict("nobody")
    assert set(tiled.features.store.usage().per_session) == {"b"}
    for session, key in (("a", True), ("b", False)):
        image = photo(40, 40, 5)
        keep = some_units(tiled, image, 1)
        answer = step(tiled, session, image, keep=keep)
        assert answer.stats.key_frame is key
        if not key:
            expected = step(reference, session, image, keep=keep)
            assert np.array_equal(answer.labels, expected.labels)
            assert same(kept_maps(tiled, session), kept_maps(reference, session))
    check_pages(tiled)


def test_releasing_a_session_is_idempotent_and_frees_all_it_had():
    tiled = make_engine("pooled")
    step(tiled, "a", photo(40, 40, 1))
    step(tiled, "a", photo(40, 40, 2), keep=True)
    for _ in range(2):
        tiled.release("a")
        assert tiled.features.store.usage().in_use == 0
    assert step(tiled, "a", photo(40, 40, 2), keep=True).stats.key_frame


@pytest.mark.parametrize("tiles", [0, 8])
def test_a_store_too_small_for_one_session_still_answers_every_frame(tiles):
    """Nine tiles are needed."""
    program = engine("pooled").program
    tiled = make_engine("pooled", store_bytes=tiles * program.bytes_per_session(16, 16, 4))
    for seed in range(3):
        image = photo(40, 40, seed)
        answer = step(tiled, "camera", image, keep=False)
        assert answer.stats.key_frame
        assert lost_by_labels(answer.labels, module_logits(module("pooled"), program.stride, image)) < FP32
        assert tiled.features.store.usage().in_use == 0


def test_a_store_with_room_for_the_old_tiles_only_computes_in_full():
    program = engine("pooled").program
    tiled = make_engine("pooled", store_bytes=10 * program.bytes_per_session(16, 16, 4))
    keep = np.zeros((3, 3), dtype=np.bool_)
    keep[0, 0] = True
    step(tiled, "camera", photo(40, 40, 0))
    assert not step(tiled, "camera", photo(40, 40, 1), keep=keep).stats.key_frame
    keep[1] = True
    image = photo(40, 40, 2)
    answer = step(tiled, "camera", image, keep=keep)
    assert answer.stats.key_frame
    assert answer.stats.block_drop_rate == 0.0
    assert (
        worst_difference(kept_maps(tiled, "camera"), expected_maps(program, module("pooled"), image)) < FP32
    )
    check_pages(tiled)


def test_references_that_are_spread_thin_are_copied_together():
    tiled = make_engine("shared", motion=Wandering(), pages_per_tile=1.2)
    spread = make_engine("shared", motion=Wandering(), pages_per_tile=1e9)
    random = np.random.default_rng(0)
    held = []
    for seed in range(12):
        image = photo(80, 80, seed)
        keep = random.random((5, 5)) < 0.3
        answers = [step(each, "camera", image, keep=keep) for each in (tiled, spread)]
        assert np.array_equal(answers[0].labels, answers[1].labels)
        assert same(kept_maps(tiled, "camera"), kept_maps(spread, "camera"))
        check_pages(tiled)
        held.append(
            [
                len(each.features.store.pools[2].owned(each._sessions["camera"].features.owner))
                for each in (tiled, spread)
            ]
        )
    assert max(few for few, _ in held) <= 1.2 * 25
    assert max(many for _, many in held) > 2 * 25


sizes = st.sampled_from([(40, 40), (17, 64), (16, 16), (50, 33)])
operation = st.tuples(
    st.sampled_from(["step", "step", "step", "step", "key", "nothing", "evict", "release", "resize"]),
    st.integers(0, 3),
    st.integers(0, 10**6),
)


@settings(max_examples=4)
@given(
    operations=st.lists(operation, min_size=40, max_size=50),
    first_sizes=st.lists(sizes, min_size=4, max_size=4),
    tiles=st.integers(5, 40),
    seed=st.integers(0, 99),
)
def test_sessions_come_and_go_in_a_small_store(operations, first_sizes, tiles, seed):
    """Each session is mirrored by an engine of its own with room enough: it never sees another's pixels."""
    program = engine("pooled").program
    small = make_engine(
        "pooled", motion=Wandering(), store_bytes=tiles * program.bytes_per_session(16, 16, 4)
    )
    mirror = engine("pooled", motion=WANDERING)
    for which in range(4):
        mirror.release(f"camera {which}")
    size = dict(enumerate(first_sizes))
    random = np.random.default_rng(seed)
    for what, which, number in operations:
        session = f"camera {which}"
        if what in ("evict", "release"):
            for each in (small, mirror):
                getattr(each, what)(session)
        else:
            if what == "resize":
                size[which] = [(40, 40), (17, 64), (16, 16), (50, 33)][number % 4]
            # that session and, perhaps, some others
            members = {which} | {other for other in range(4) if random.random() < 0.3}
            requests = []
            for member in sorted(members):
                image = photo(*size[member], number + member)
                keep = False if what == "nothing" else some_units(small, image, number, random.random())
                requests.append(Ask(f"camera {member}", image, whole=what == "key", keep=keep))
            for request, answer in zip(requests, run(small, requests), strict=True):
                # a key frame where the small store has lost something
                expected = step(
                    mirror, request.session_id, request.image,
                    whole=answer.stats.key_frame, keep=request.keep,
                )  # fmt: skip
                assert expected.stats.key_frame == answer.stats.key_frame
                assert (answer.labels != expected.labels).mean() < 1e-3
                features = small._sessions[request.session_id].features
                if features is not None and features.maps:
                    found, there = (kept_maps(each, request.session_id) for each in (small, mirror))
                    assert worst_difference(found, there) < FP32
        check_pages(small)
    for which in range(4):
        small.release(f"camera {which}")
    assert small.features.store.usage().in_use == 0
    assert all(pool.available == pool.capacity for pool in small.features.store.pools.values())

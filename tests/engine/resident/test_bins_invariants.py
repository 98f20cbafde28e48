"""What holds of partial frames whatever is computed: exactness, stillness, independence, bounded memory."""

from unittest import mock

import numpy as np
import pytest
import torch

from support.resident import drift, make_resident
from support.reuse_engines import NEVER, Ask, run
from tilestream.engine.resident import engine as resident_engine
from tilestream.engine.resident.engine import ResidentEngine
from tilestream.label_runs import label_map


def labels_of(outcome):
    return label_map(outcome.labels)


def random_mask(engine, image, random, share=0.4):
    return random.random(engine.program.bins(*image.shape[:2])) < share


@pytest.mark.parametrize("name", ["dilated", "pooled", "borders"])
def test_all_bins_kept_is_the_dense_network_for_any_sizes(name):
    engine = make_resident(name, "budget", dense_above=NEVER)
    clips = {
        "a": drift(3),
        "b": drift(3, 37, 61, seed=1),
        "c": drift(3, seed=2),
        "d": drift(3, 48, 64, seed=3),
    }
    for index in range(3):
        asked = [Ask(name, clip[index], budget=0.3, keep=True) for name, clip in clips.items()]
        for ask, outcome in zip(asked, run(engine, asked), strict=True):
            assert outcome.stats.whole == (index == 0)
            assert outcome.stats.units_computed == outcome.stats.units_total
            assert (labels_of(outcome) != engine.dense.labels(ask.image)).mean() < 1e-3


def test_nothing_computed_and_nothing_moved_is_the_previous_output_to_the_bit():
    engine, images, random = make_resident("dilated", "budget"), drift(8), np.random.default_rng(0)
    for image in images[:5]:
        keep = random_mask(engine, image, random)
        (before,) = run(engine, [Ask("s", image, budget=0.3, keep=keep, confidence=True)])
    assert not before.stats.whole and before.stats.units_computed
    for _ in range(3):
        (after,) = run(engine, [Ask("s", images[4], budget=0.3, keep=False, confidence=True)])
        assert after.stats.macs == 0
        assert np.array_equal(labels_of(after), labels_of(before))
        assert np.array_equal(after.confidence, before.confidence)


def test_references_follow_the_motion_once_something_is_computed():
    engine, twin = (make_resident("dilated", "budget", dense_above=NEVER) for _ in range(2))
    images, kept = drift(6), np.arange(20).reshape(4, 5) % 3 == 0
    run(engine, [Ask("s", images[0], budget=0.3)])
    table = engine.slots.table((64, 80))
    [references] = table.features._references.values()
    before = references.rows.clone()
    for image in images[1:4]:
        run(engine, [Ask("s", image, budget=0.3, keep=False)])
        assert torch.equal(references.rows, before)
    assert table.displacement.abs().amax() > 4
    (partial,) = run(engine, [Ask("s", images[4], budget=0.3, keep=kept)])
    assert not torch.equal(references.rows, before) and not table.displacement.any()
    for image in images[:5]:
        (moved,) = run(twin, [Ask("s", image, budget=0.3, keep=False)])
    same = labels_of(partial) == labels_of(moved)
    assert same[~kept.repeat(16, axis=0).repeat(16, axis=1)].all() and not same.all()


def test_outcomes_do_not_depend_on_who_shares_the_steps():
    """Frames moved only, partial and whole, of two sizes, in one step."""
    alone, together = (make_resident("dilated", "budget", dense_above=NEVER) for _ in range(2))
    others = {"x": drift(8, seed=1), "y": drift(8, 48, 64, seed=2), "z": drift(8, seed=3)}
    mine, random = drift(8), np.random.default_rng(5)
    for index, image in enumerate(mine):
        keep = False if index == 3 else random_mask(alone, image, random)
        ask = Ask("mine", image, budget=0.4, keep=keep, confidence=True)
        company = [
            Ask(name, clip[index], keep=random_mask(alone, clip[index], random) if index % 3 else False)
            for name, clip in others.items()
            if index >= 2 or name != "z"
        ]
        company[0] = Ask("x", others["x"][index], whole=index == 5)
        (expected,) = run(alone, [ask])
        *_, got = run(together, [*company, ask])
        assert got.stats.whole == expected.stats.whole
        assert got.stats.agreement == pytest.approx(expected.stats.agreement, abs=1e-3)
        assert np.array_equal(got.bins.age, expected.bins.age)
        # rounding in convolutions may differ with the size of the batch: where two classes are equal
        assert (labels_of(got) != labels_of(expected)).mean() < 1e-3


def with_room(slots, sessions):
    """An engine with room for so many slots, and for the features of so many sessions, of 64 x 80 pixels."""
    engine = make_resident("dilated", "budget")
    slot_bytes, page_bytes = (1 + slots) * engine._layout((64, 80)).row_bytes, pages(engine).page_bytes
    store_bytes = slot_bytes + int(sessions * 20 + 1) * page_bytes
    with mock.patch.object(ResidentEngine, "_slot_bytes", lambda self, total: slot_bytes):
        return make_resident("dilated", "budget", dense_above=NEVER, store_bytes=store_bytes)


def pages(engine):
    return engine._partial._shared.pages


def ledger(engine):
    return pages(engine).ledger


@pytest.mark.parametrize("slots, sessions", [(3, 9), (9, 2.5)], ids=["slots", "pages"])
def test_eviction_costs_whole_frames_and_nothing_else(slots, sessions):
    engine, reference = with_room(slots, sessions), make_resident("dilated", "budget", dense_above=NEVER)
    clips, random = {f"s{index}": drift(3, seed=index) for index in range(5)}, np.random.default_rng(0)
    for index in range(3):
        for name, clip in clips.items():  # in turns, so that always the longest unused one has to go
            keep = random_mask(engine, clip[index], random)
            (got,) = run(engine, [Ask(name, clip[index], budget=0.2, keep=keep)])
            (dense,) = run(reference, [Ask(name, clip[index], whole=True, retain=False)])
            assert got.failure is None and got.stats.whole
            assert np.array_equal(labels_of(got), labels_of(dense))
    usage = engine.usage()
    assert usage.evictions > 0
    assert usage.bytes <= usage.limit_bytes


@pytest.mark.parametrize("slots, sessions", [(0, 0), (0, 9), (9, 0), (9, 1.5), (2, 9), (9, 3.5), (20, 20)])
def test_all_frames_are_answered_however_little_room_there_is(slots, sessions):
    """More sessions in a step than fit: some frames are whole ones, and these are right."""
    sizes = {"a": (64, 80), "b": (64, 80), "c": (48, 64), "d": (64, 80), "e": (48, 64)}
    engine, free = with_room(slots, sessions), make_resident("dilated", "budget", dense_above=NEVER)
    random, kinds = np.random.default_rng(2), set()
    for index in range(4):
        images = {name: drift(4, *size, seed=ord(name))[index] for name, size in sizes.items()}
        asked = [
            Ask(name, image, budget=0.2, keep=random_mask(engine, image, random, share=0.3) | (index == 3))
            for name, image in images.items()
        ]
        for ask, got, other in zip(asked, run(engine, asked), run(free, asked), strict=True):
            assert got.failure is None
            kinds.add(got.stats.whole if index else None)
            if got.stats.whole:
                assert (labels_of(got) != engine.dense.labels(ask.image)).mean() < 1e-3
            else:
                assert not other.stats.whole
            if slots == 20:
                assert np.array_equal(labels_of(got), labels_of(other))
    scarce = {True} if 0 in (slots, sessions) else {True, False}
    assert kinds == {None} | ({False} if slots == 20 else scarce)


def test_release_is_idempotent_and_frees_everything():
    engine, random = make_resident("dilated", "budget", dense_above=NEVER), np.random.default_rng(0)
    for index in range(3):
        clips = {"a": drift(3)[index], "b": drift(3, 48, 64)[index], "c": drift(3, seed=4)[index]}
        run(engine, [Ask(n, i, budget=0.2, keep=random_mask(engine, i, random)) for n, i in clips.items()])
    table = engine.slots.table((64, 80))
    held = {owner: set(np.concatenate(pages).tolist()) for owner, pages in ledger(engine)._held.items()}
    assert sum(map(len, held.values())) == len(set().union(*held.values())) > 0  # a page is one session's
    assert table.features.has(engine.slots.acquire("a", (64, 80), set()))
    for _ in range(2):
        for name in clips:
            engine.release(name)
    assert engine.usage().bytes == 0 and engine.usage().pages == 0
    assert ledger(engine).available == ledger(engine).capacity


def test_a_session_in_a_given_up_slot_sees_nothing_of_the_one_before():
    engine, images = make_resident("dilated", "budget", dense_above=NEVER), drift(6)
    other = drift(6, seed=7)
    for index in range(3):
        run(engine, [Ask("before", other[index], budget=0.3, keep=True)])
    engine.release("before")
    fresh = make_resident("dilated", "budget", dense_above=NEVER)
    for index, image in enumerate(images):
        ask = Ask("after", image, budget=0.3)
        (got,), (expected,) = run(engine, [ask]), run(fresh, [ask])
        assert got.stats.whole == expected.stats.whole == (index == 0)
        assert np.array_equal(labels_of(got), labels_of(expected))
        assert np.array_equal(got.bins.age, expected.bins.age)


def test_an_evicted_session_begins_with_a_whole_frame():
    engine, images = make_resident("dilated", "budget"), drift(6)
    run(engine, [Ask("s", images[0], budget=0.3)])
    (partial,) = run(engine, [Ask("s", images[1], budget=0.3)])
    table = engine.slots.table((64, 80))
    table.features.release(engine.slots.acquire("s", (64, 80), set()))  # as if its pages had gone to others
    (whole,) = run(engine, [Ask("s", images[2], budget=0.3)])
    (again,) = run(engine, [Ask("s", images[3], budget=0.3)])
    assert [each.stats.whole for each in (partial, whole, again)] == [False, True, False]
    engine.evict("s")
    assert engine.usage().bytes == 0
    assert run(engine, [Ask("s", images[4], budget=0.3)])[0].stats.whole


def test_many_sessions_make_tables_grow_and_keep_what_they_have():
    engine, few = (make_resident("dilated", "budget", dense_above=NEVER) for _ in range(2))
    clips = [drift(4, 32, 48, seed=seed) for seed in range(20)]
    for index in range(4):
        there = clips[: 1 + 6 * index]
        asked = [Ask(f"s{number}", clip[index], budget=0.4) for number, clip in enumerate(there)]
        outcomes = run(engine, asked)
        (expected,) = run(few, asked[:1])
        assert (labels_of(outcomes[0]) != labels_of(expected)).mean() < 1e-3
        assert outcomes[0].stats.units_computed == expected.stats.units_computed
    assert engine.slots.table((32, 48)).rows > 8


def test_warming_up_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr(resident_engine, "_COMMON_SIZE", (48, 64))
    engine = make_resident("dilated", "budget")
    engine.warm_up()
    assert engine.usage().bytes == 0 and engine.by_last_use() == []
    assert run(engine, [Ask("s", drift(1)[0], budget=0.3)])[0].stats.whole

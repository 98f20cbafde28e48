"""Frames whose labels wait for the next whole frame, and get them from both sides."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from support.frames import photo
from support.toy_networks import toy
from tilestream.engine import look_ahead, refresh_between
from tilestream.engine.both_sides import Side, join
from tilestream.engine.motion.track import Track, inverted
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.messages import Frame, Grant, Picture, SessionSpec

BIN, HEIGHT, WIDTH = 16, 96, 128
SCENE = photo(WIDTH + 64, HEIGHT, 3)


@pytest.fixture(scope="module")
def network():
    return toy("split")


def drive(frames: int, step: int = 2, scene: np.ndarray = SCENE) -> list[np.ndarray]:
    """A window that moves over a scene."""
    return [np.ascontiguousarray(scene[:, step * i : step * i + WIDTH]) for i in range(frames)]


def segmenter(network, **options) -> StreamingSegmenter:
    return StreamingSegmenter(network, BIN, **{"gate": "every_k", "fusion": 0.0, **options})


@pytest.mark.parametrize("gate", ["every_k", "refresh"])
def test_every_frame_gets_labels_once_in_order_and_not_too_late(network, gate):
    asked = []

    def frames() -> Iterator[np.ndarray]:
        for frame in drive(20):
            asked.append(len(asked))
            yield frame

    seg, answered = segmenter(network, budget=0.25, look_ahead=3, gate=gate), 0
    for labels, stats in seg.stream(frames()):
        assert labels.shape == (HEIGHT, WIDTH) and stats.units_total
        assert len(asked) - 1 - answered <= 3
        answered += 1
    assert answered == 20
    assert seg.state is not None and not seg.state.gap.frames


def test_whole_frames_are_those_of_a_stream_that_does_not_wait(network):
    frames = drive(13)
    waiting = list(segmenter(network, budget=0.25, look_ahead=3).stream(frames))
    at_once = [segmenter(network, budget=0.25)]
    known = [at_once[0](frame) for frame in frames]
    assert [stats.whole for _, stats in waiting] == [stats.whole for _, stats in known]
    for (ours, stats), (theirs, _) in zip(waiting, known, strict=True):
        if stats.whole:
            assert np.array_equal(ours, theirs)
            assert (stats.since_source, stats.until_source, stats.future_share) == (0, None, 0.0)
    between = [(stats.since_source, stats.until_source) for _, stats in waiting[:9]]
    assert between == [(0, None), (1, 3), (2, 2), (3, 1)] * 2 + [(0, None)]


def test_what_cannot_wait_so_long_comes_from_one_side(network):
    results = list(segmenter(network, budget=1 / 8, look_ahead=4).stream(drive(9)))
    assert [stats.until_source for _, stats in results] == [None] * 4 + [4, 3, 2, 1, None]
    assert [stats.since_source for _, stats in results] == [0, 1, 2, 3, 4, 5, 6, 7, 0]


def test_frames_before_a_cut_take_nothing_from_behind_it(network):
    blocks = 255 * np.random.default_rng(0).integers(0, 2, (HEIGHT // 8, (WIDTH + 64) // 8, 1), np.uint8)
    other = blocks.repeat(8, axis=0).repeat(8, axis=1).repeat(3, axis=2)
    frames = drive(3) + drive(3, scene=other)
    results = list(segmenter(network, budget=0.05, look_ahead=8).stream(frames))
    alone = list(segmenter(network, budget=0.05, look_ahead=8).stream(frames[:3]))
    assert [stats.whole for _, stats in results] == [True, False, False, True, False, False]
    for (ours, stats), (theirs, _) in zip(results[:3], alone, strict=True):
        assert np.array_equal(ours, theirs) and stats.until_source is None


def test_nothing_waits_while_nothing_moves(network):
    seg, frame = segmenter(network, budget=0.1, look_ahead=8), drive(1)[0]
    outcomes = [outcome for _ in range(5) for outcome in seg._step(frame)]
    assert [outcome.frame_id for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert all(np.array_equal(outcome.labels, outcomes[0].labels) for outcome in outcomes)


def test_frames_of_another_size_leave_none_waiting(network):
    frames = [*drive(3), *[frame[:80] for frame in drive(3)]]
    shapes = [labels.shape[0] for labels, _ in segmenter(network, budget=0.1, look_ahead=8).stream(frames)]
    assert shapes == [HEIGHT] * 3 + [80] * 3


def test_bins_in_doubt_are_computed_in_the_middle_and_paid_for(network):
    seg = segmenter(network, budget=1.45 / 8, look_ahead=8, gate="refresh")
    results = list(seg.stream(drive(17, step=3)))
    refreshed = [index for index, (_, stats) in enumerate(results) if stats.bins_refreshed]
    assert len(refreshed) >= 3
    spent = sum(stats.units_computed / stats.units_total for _, stats in results[1:])
    assert spent <= 1.45 / 8 * 16 + sum((0.25, 0.2))  # the last gap's are paid for by the next one
    for index in refreshed:
        stats = results[index][1]
        assert not stats.whole and stats.macs and 0 <= stats.refresh_changed <= 1
        assert abs(stats.since_source - stats.until_source) <= 1, "it is in the middle"
    store = seg.engine.features.store
    tiles = (HEIGHT // BIN) * (WIDTH // BIN)
    assert all(pool.capacity - pool.available == tiles for pool in store.pools.values()), (
        "what was refreshed stays"
    )


def test_where_all_bins_are_computed_and_believed_labels_are_the_networks(network, monkeypatch):
    believed = refresh_between._believed

    def all_of_it(refreshed, *rest):
        refreshed.joined.disputed[...] = 1
        return believed(refreshed, *rest)

    monkeypatch.setattr(refresh_between, "_believed", all_of_it)
    monkeypatch.setattr(look_ahead, "shares_ahead", lambda budget, frames: (1.0,))
    monkeypatch.setattr(look_ahead.LookAhead, "_most", lambda *_: np.ones((6, 8), np.bool_))
    frames = drive(9, step=3)
    seg = segmenter(network, budget=1 / 8, look_ahead=8, gate="refresh", dense_above=2.0)
    results = list(seg.stream(frames))
    dense = [segmenter(network, budget=1.0)(frame)[0] for frame in frames]
    assert results[4][1].bins_refreshed == 48
    assert (results[4][0] == dense[4]).mean() > 0.999


def test_sessions_do_not_depend_on_each_other(network):
    def results(names: tuple[str, ...]) -> dict[str, list[np.ndarray]]:
        engine = segmenter(network, gate="refresh").engine
        videos = {"a": drive(17, step=3), "b": drive(17, step=1, scene=photo(WIDTH + 64, HEIGHT, 9))}
        found: dict[str, dict[int, np.ndarray]] = {name: {} for name in names}
        for name in names:
            engine.open(SessionSpec(name, "", max_delay=8.0))
        for number in range(17):
            work = [
                (
                    Frame(
                        name,
                        number,
                        Picture(WIDTH, HEIGHT, (WIDTH, HEIGHT), videos[name][number]),
                        captured=number,
                    ),
                    Grant(0.2),
                )
                for name in names
            ]
            for outcome in engine.step(work):
                if outcome.labels is not None:
                    found[outcome.session_id][outcome.frame_id] = outcome.labels
        for name in names:
            for outcome in engine.finish(name, 99):
                found[name][outcome.frame_id] = outcome.labels
        return {name: [known[number] for number in range(17)] for name, known in found.items()}

    together, alone = results(("a", "b")), results(("a",)) | results(("b",))
    for name in "ab":
        for ours, theirs in zip(together[name], alone[name], strict=True):
            assert np.array_equal(ours, theirs)


def test_gates_of_bins_and_single_frames_do_not_look_ahead(network):
    with pytest.raises(ValueError, match="look_ahead: the gate computes bins"):
        segmenter(network, gate="budget", look_ahead=4)
    with pytest.raises(ValueError, match="look_ahead: -1"):
        segmenter(network, look_ahead=-1)
    with pytest.raises(ValueError, match="ask stream"):
        segmenter(network, look_ahead=4)(drive(1)[0])


def test_a_track_leads_there_and_back():
    there = torch.zeros(20, 30, 2)
    there[..., 0], there[..., 1] = 2.0, -1.0
    assert torch.allclose(inverted(there), -there)
    track = Track([there, None, there])
    assert torch.allclose(track.displacement(3, 0)[5:15, 5:20], 2 * there[5:15, 5:20])
    assert torch.allclose(track.displacement(0, 3)[5:15, 5:20], -2 * there[5:15, 5:20])
    assert torch.equal(track.displacement(2, 0), there)
    assert track.displacement(1, 2) is None


def test_each_pixel_takes_the_side_that_looks_like_it():
    luma = torch.full((24, 32), 100, dtype=torch.uint8)
    appeared = luma.clone()
    appeared[6:18, 8:24] = 200
    before = Side([torch.zeros(48, 64, dtype=torch.uint8)], luma, None, 1)
    after = Side([torch.ones(48, 64, dtype=torch.uint8)], appeared, None, 2)
    joined = join(before, after, appeared, 2)
    assert joined.planes[0][16:32, 20:44].all() and not joined.planes[0][:8].any()
    assert joined.disputed.all()
    assert joined.future_share == pytest.approx(joined.planes[0].mean())

"""Where labels are in doubt, and what the refresh gate makes of it."""

import numpy as np
import pytest
import torch

from support.batches import question, signals_of
from support.frames import photo
from support.reuse_engines import Ask, Shift, check_pages, make_engine, network, run
from tilestream.engine.gates.doubt import OUTSIDE, Doubt, find_doubt
from tilestream.engine.gates.refresh import RefreshGate
from tilestream.engine.memory.labels import LabelMap
from tilestream.engine.memory.sources import Sources
from tilestream.engine.streaming import StreamingSegmenter
from tilestream.label_runs import label_map
from tilestream.scheduling.rhythm import Rhythm

H, W, SCALE = 48, 64, 2
BUDGET = 1.7 / 12  # refreshes 4 and 8 frames after a whole one


def flow(x: float, y: float) -> torch.Tensor:
    return torch.tensor((x, y), dtype=torch.float32).repeat(H // SCALE, W // SCALE, 1)


@pytest.fixture
def luma() -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(1).integers(0, 255, (H // SCALE, W // SCALE), dtype=np.uint8)
    )


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 11, (H, W), dtype=np.uint8))


def test_nothing_is_in_doubt_where_nothing_has_happened(luma, picture):
    labels, sources = LabelMap(H, W, 16, 1), Sources()
    for _ in range(2):
        sources.begin(luma, labels, whole=True, first=False)
        labels.replace(picture)
    found = find_doubt(sources, labels, luma, SCALE)
    assert not found.unexplained.any() and found.disputed is not None and not found.disputed.any()
    assert not found.believed((H, W)).any() and not found.per_bin(16, (3, 4)).any()


def test_two_sources_dispute_what_one_of_them_has_changed(luma, picture):
    """The labels of the source before are looked up where both motions, one after the other, lead."""
    labels, sources = LabelMap(H, W, 16, 1), Sources()
    sources.begin(luma, labels, whole=True, first=True)
    labels.replace(picture)
    labels.move(flow(2, 0), SCALE)  # 4 pixels of the labels
    sources.begin(luma, labels, whole=False, first=False)
    changed = labels.plane(0).clone()
    changed[20:24, 8:16] += 1
    labels.replace(changed)
    labels.move(flow(0, 1), SCALE)
    found = find_doubt(sources, labels, luma, SCALE)
    expected = np.zeros((H, W), dtype=np.uint8)
    expected[18:22, 8:16] = 1
    assert np.array_equal(found.disputed[:-2], expected[:-2])
    assert np.array_equal(sources.since_whole(labels).numpy(), flow(2, 1).numpy())


def test_what_comes_from_outside_is_in_doubt(luma, picture):
    labels, sources = LabelMap(H, W, 16, 1), Sources()
    sources.begin(luma, labels, whole=True, first=True)
    labels.replace(picture)
    labels.move(flow(4, 0), SCALE)
    found = find_doubt(sources, labels, luma, SCALE)
    assert (found.unexplained[:, -4:] == OUTSIDE).all() and (found.unexplained[:, :-4] != OUTSIDE).any()
    assert found.disputed is None, "there is but one source"
    assert found.believed((H, W))[:, -8:].all()


def test_a_scene_that_is_another_has_no_source_before_it(luma, picture):
    labels, sources = LabelMap(H, W, 16, 1), Sources()
    sources.begin(luma, labels, whole=True, first=True)
    labels.replace(picture)
    sources.begin(luma, labels, whole=True, first=True)
    assert sources.labels is None


def test_doubt_of_bins_is_their_part_of_both_sums():
    left, disputed = np.zeros((H // SCALE, W // SCALE), np.float32), np.zeros((H, W), np.uint8)
    left[:8, :8], left[8:16, :8] = 3, 1  # of the bins 0, 0 and 1, 0
    disputed[:4, 16:20] = 1
    found = Doubt(left, disputed, SCALE).per_bin(16, (3, 4))
    expected = np.zeros((3, 4))
    expected[0, 0], expected[1, 0], expected[0, 1] = 0.75 * 12, 0.25 * 12, 12
    assert np.allclose(found, expected)


def decided(**figures):
    moving = signals_of((4, 5), motion=5, distortion=np.arange(20).reshape(4, 5) + 2)
    frame = question(moving, **{"budget": BUDGET, "credit": 0.6, "since_source": 4, **figures})
    return RefreshGate().decide(frame).keep[0, 0].numpy()


def test_a_refresh_computes_the_bins_of_most_doubt():
    keep = decided()
    assert keep.sum() == 7  # 35 % of 20; in place of doubt, distortion
    assert keep.ravel()[-7:].all()


@pytest.mark.parametrize("figures", [{"since_source": 3}, {"since_source": 9, "refreshed": 2}, {"credit": 0}])
def test_none_is_due_too_soon_or_too_often_or_on_credit(figures):
    assert not decided(**figures).any()


def test_nothing_is_computed_while_nothing_moves():
    still = question(signals_of((4, 5)), budget=BUDGET, credit=1.0, since_source=9)
    assert not RefreshGate().decide(still).keep.any()


def drive(number: int) -> np.ndarray:
    """A frame uint8 [96, 128, 3] of a scene that moves by 2 pixels from one to the next, with noise."""
    noise = np.random.default_rng(number).integers(-4, 5, (96, 128, 3))
    seen = photo(256, 96, 0)[:, 2 * number : 2 * number + 128]
    return np.clip(seen + noise, 0, 255).astype(np.uint8)


def test_a_session_s_frames_keep_the_rhythm():
    engine = make_engine("split", motion=Shift(2, 0), gate=RefreshGate())
    kinds = []
    for seed in range(25):
        [outcome] = run(engine, [Ask("camera", drive(seed), budget=BUDGET)])
        stats = outcome.stats
        kinds.append("W" if stats.whole else "r" if stats.units_computed else ".")
        if kinds[-1] == "r":
            bins = stats.bins_refreshed / (stats.units_total / 2)
            assert (
                stats.bins_refreshed > 0
                and stats.units_computed / stats.units_total <= Rhythm.of(BUDGET).share
            )
            assert stats.refresh_changed is not None and 0 <= stats.refresh_changed <= 1 and bins > 0
        else:
            assert stats.bins_refreshed == 0 and stats.refresh_changed is None
    assert "".join(kinds) == "W...r...r...W...r...r...W"


@pytest.mark.parametrize("sessions", [1, 3])
def test_where_memory_runs_short_sessions_go_on_with_whole_frames(sessions):
    """Room for the features of none, or of one of three: the others spend all they have on whole frames."""
    room = make_engine("split").program.bytes_per_session(96, 128, 4)
    store_bytes = room * sessions // 2
    engine = make_engine("split", motion=Shift(2, 0), gate=RefreshGate(), store_bytes=store_bytes)
    kinds = [""] * sessions
    for number in range(14):
        for index in range(sessions):
            [outcome] = run(engine, [Ask(str(index), drive(number), budget=BUDGET)])
            kinds[index] += "W" if outcome.stats.whole else "r" if outcome.stats.units_computed else "."
            check_pages(engine)
    assert kinds[0] == "W.......W....."
    assert ("r" in "".join(kinds)) == (sessions > 1)
    assert all(kind.count("W") == 2 for kind in kinds)


def test_labels_are_those_that_were_warped_but_where_there_is_doubt():
    """Outside of the refreshed bins nothing changes."""
    believing, doubting = (
        StreamingSegmenter(network("split"), 16, BUDGET, gate=gate, motion=Shift(2, 0))
        for gate in ("refresh", "every_k")
    )
    for seed in range(5):
        frame = drive(seed)
        found = believing.outcome(frame)
        warped = label_map(doubting.outcome(frame).labels)
    refreshed = np.kron(found.bins.units_computed > 0, np.ones((16, 16)))[:96, :128] > 0
    labels = label_map(found.labels)
    assert refreshed.any() and not refreshed.all()
    assert np.array_equal(labels[~refreshed], warped[~refreshed])

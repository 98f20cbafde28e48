"""What all gates promise, trained ones too: the same answer to the same frame, and to keep the budget."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.batches import asked, equal, together
from support.frames import photo
from support.gates import frames, make_gate
from support.reuse_engines import NEVER, network
from tilestream.engine.gates.registry import GATES
from tilestream.engine.motion.distortion import BinSignals
from tilestream.engine.streaming import StreamingSegmenter

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 7))


@pytest.mark.parametrize("name", GATES)
@given(frames())
def test_the_same_frame_gets_the_same_masks(name, frame):
    first, second = make_gate(name), make_gate(name)
    expected = first.decide(frame)
    first.decide(asked(frame, budget=0.9, credit=1.5))  # and nothing stays of it
    for gate in (first, second):
        assert equal(gate.decide(frame), expected)


def as_tracked(signals: BinSignals) -> BinSignals:
    """The same signals, interleaved in memory as the tracker hands them out."""
    names = [name for name in signals.__slots__ if name not in ("scene_cut", "peak")]
    views = torch.stack([getattr(signals, name) for name in names], dim=3).unbind(dim=3)
    return replace(signals, **dict(zip(names, views, strict=True)))


@pytest.mark.parametrize("name", GATES)
@given(SHAPES.flatmap(lambda shape: st.lists(frames(shape), min_size=1, max_size=6)))
def test_a_frame_s_masks_do_not_depend_on_who_comes_with_it(name, several):
    gate, all_of_them = make_gate(name), together(several)
    for batch in (all_of_them, replace(all_of_them, signals=as_tracked(all_of_them.signals))):
        found = gate.decide(batch)
        assert found.risk is None or found.risk.dtype == torch.float32
        for index, frame in enumerate(several):
            alone = gate.decide(frame)
            assert torch.equal(found.keep[index], alone.keep[0])
            assert (found.risk is None) == (alone.risk is None)
            assert found.risk is None or torch.equal(found.risk[index], alone.risk[0])


@pytest.mark.parametrize("name", GATES)
@given(frames(), st.floats(0, 1))
def test_a_higher_budget_never_computes_less(name, frame, more):
    more *= 1.0 - frame.budget.item()
    richer = asked(frame, budget=frame.budget + more, credit=frame.credit + more)
    few, many = make_gate(name).decide(frame).keep, make_gate(name).decide(richer).keep
    assert few.sum() <= many.sum()
    assert not (few & ~many).any()


@pytest.mark.parametrize("name", GATES)
@given(frames(), st.floats(0, 1))
def test_no_more_is_computed_than_the_limit(name, frame, limit):
    keep = make_gate(name).decide(asked(frame, limit=limit)).keep
    if frame.signals.scene_cut:
        assert keep.all(), "there is nothing to reuse"
    else:
        assert keep.float().mean() <= max(limit, 1 / keep[0, 0].numel() if limit else 0.0) + 1e-6
        assert not (keep & ~make_gate(name).decide(asked(frame, limit=1.0)).keep).any()


def computed(name: str, budget: float, count: int = 60) -> list[float]:
    """Shares of the units that a drive's frames compute, after the first one."""
    module = network("split")
    with torch.no_grad():
        classes = module(torch.zeros(1, 3, 64, 64)).shape[1]
    segment = StreamingSegmenter(module, 16, budget, gate=make_gate(name, classes, 16), dense_above=NEVER)
    scene = photo(128 + 2 * count, 96, 0)
    images = [np.ascontiguousarray(scene[:, 2 * i : 2 * i + 128]) for i in range(count + 1)]
    return [1.0 - segment(image)[1].block_drop_rate for image in images][1:]


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("budget", [0.15, 0.4])
def test_the_budget_is_kept_over_a_clip(name, budget):
    shares = computed(name, budget)
    assert np.mean(shares) <= budget + 0.02
    # the first frame, whole whatever the budget, is paid for by those after it
    paid = 1.0 / len(shares) if GATES[name].trained else 0.0
    assert np.mean(shares) >= budget - paid - 0.02

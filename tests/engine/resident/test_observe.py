"""Looking at batches: what is prepared for one size fits the memory that is there, and keeps none alive."""

import gc
import weakref

import pytest
import torch

from support.resident import make_resident, pan
from support.reuse_engines import Ask, run
from tilestream.engine.resident import observe


def test_batches_are_prepared_again_when_tables_or_buffers_grow():
    engine = make_resident()
    observer, image = engine._observer, pan(1, 32, 48)[0]

    def prepared(sessions):
        """What one session alone is looked at with, once so many more have come."""
        run(engine, [Ask(f"s{index}", image, budget=0.01) for index in range(sessions)])
        (outcome,) = run(engine, [Ask("s0", image, budget=0.01)])
        assert not outcome.stats.whole
        return observer._prepared[32, 48, 1]

    first = prepared(1)
    assert prepared(1) is first and prepared(1) is first
    second = prepared(2)  # more pixels
    assert second is not first and prepared(2) is second
    third = prepared(9)  # and more slots
    assert third is not second and prepared(9) is third
    pixels, table = third.memory.get()
    assert table is engine.slots.table((32, 48)) and table.rows == third.memory.rows >= 9
    assert pixels is engine._pixels._buffers[32, 48]


def test_a_prepared_batch_fits_only_what_it_was_prepared_for():
    engine = make_resident()
    for image in pan(3):
        run(engine, [Ask("s", image, budget=0.2)])
    (prepared,) = engine._observer._prepared.values()
    pixels, table = prepared.memory.get()
    assert prepared.fits(pixels, table)
    assert not prepared.fits(pixels.view_as(pixels), table)  # the same address
    with torch.inference_mode():
        table.grow(1)
    assert not prepared.fits(pixels, table)


def test_tables_that_are_given_up_are_free():
    engine = make_resident()
    for image in pan(3):
        run(engine, [Ask("s", image, budget=0.2)])
    table = weakref.ref(engine.slots.table((64, 80)))
    pixels = weakref.ref(next(iter(engine._pixels._buffers.values())))
    (prepared,) = engine._observer._prepared.values()
    engine.release("s")
    for height in range(40, 44):  # other sizes push the pixels out
        run(engine, [Ask("t", pan(1, height, 80)[0], budget=0.2)])
    gc.collect()
    assert table() is None and pixels() is None
    with pytest.raises(RuntimeError, match="gone"):
        prepared.memory.get()
    whole = [run(engine, [Ask("s", image, budget=0.2)])[0].stats.whole for _ in range(3)]
    assert whole == [True, False, False]


def test_few_batches_are_prepared_at_a_time(monkeypatch):
    monkeypatch.setattr(observe, "_SIZES", 3)
    engine = make_resident()
    for width in range(32, 37):
        for _ in range(2):
            (outcome,) = run(engine, [Ask("s", pan(1, 32, width)[0], budget=0.2)])
        assert not outcome.stats.whole
        assert len(engine._observer._prepared) <= 3


def test_the_tracker_of_a_prepared_batch_stays():
    """A graph reads its tensors, which others' sizes would else push out of those that are kept."""
    engine = make_resident()
    for image in pan(3):
        run(engine, [Ask("s", image, budget=0.2)])
    tracker = weakref.ref(engine._observer.tracker((64, 80)))
    engine._observer.tracker.cache_clear()
    gc.collect()
    assert tracker() is not None

"""A page has one owner or none, whatever is asked for."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.reuse_engines import CPU, make_engine
from tilestream.engine.resident.partial.pages import FeaturePages, PageLedger

ACTIONS = st.sampled_from(["take", "keep_latest", "release"])


@given(steps=st.lists(st.tuples(ACTIONS, st.integers(0, 3), st.integers(0, 7)), max_size=40))
def test_pages_are_of_one_owner(steps):
    ledger, held = PageLedger(20), {}
    for action, owner, count in steps:
        before = ledger.available
        if action == "take":
            pages = ledger.take(owner, count)
            assert (pages is None) == (count > before)
            if pages is not None:
                held.setdefault(owner, []).append(pages)
        elif action == "keep_latest":
            ledger.keep_latest(owner)
            held[owner] = held.get(owner, [])[-1:]
        else:
            for _ in range(2):
                ledger.release(owner)
            held.pop(owner, None)
        everyone = np.concatenate([np.zeros(0, np.int32), *(p for parts in held.values() for p in parts)])
        assert len(np.unique(everyone)) == len(everyone) == ledger.capacity - ledger.available
        assert ((everyone >= 0) & (everyone < 20)).all()
        for each in range(4):
            assert ledger.held(each) == sum(map(len, held.get(each, [])))


def test_memory_is_bounded_and_taken_late():
    program = make_engine("pooled").program
    pages = FeaturePages(program, 1 << 20, CPU, torch.float32)
    assert pages.maps == {}
    pages.take_memory()
    taken = sum(rows.nbytes for rows in pages.maps.values())
    constants = 2 * sum(node.channels for node in program.kept) * torch.float32.itemsize
    assert (1 << 20) - pages.page_bytes < taken - constants <= 1 << 20
    for node in program.kept:
        zero = pages.zero_row(node.stride)
        rows = pages.maps[node.name]
        assert len(rows) == zero + 2
        assert (rows[zero] == 0).all()
        assert (rows[zero + 1] < -1e30).all()

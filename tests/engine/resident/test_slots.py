"""Slots are bounded, belong to one session each, and are given back once, in whichever order."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tilestream.engine.resident.slots import SlotLayout, Slots, SlotTable

NAMES = st.sampled_from([f"s{index}" for index in range(12)])
SIZES = st.sampled_from([(4, 4), (4, 6), (8, 6)])
CPU = torch.device("cpu")


def layout(size):
    return SlotLayout(size, size, (2, 2), (3, size[0] // 2, size[1] // 2), torch.float32)


def make(max_bytes, released=lambda name: None):
    def evict(name):
        released(name)
        slots.release(name)

    slots = Slots(layout, CPU, max_bytes, evict)
    return slots


class Machine(RuleBasedStateMachine):
    """Sessions that come, stay, change their size and go."""

    @initialize(rows=st.integers(0, 40))
    def begin(self, rows):
        self.max_bytes = rows * layout((4, 4)).row_bytes
        self.slots = make(self.max_bytes, lambda name: self.held.pop(name))
        self.held = {}  # by session: size and row

    @rule(names=st.sets(NAMES, min_size=1, max_size=8), size=SIZES)
    def step(self, names, size):
        for name in names:
            if name in self.held and self.held[name][0] != size:
                self.release(name)
        for name in names:
            before = dict(self.held)
            row = self.slots.acquire(name, size, names)
            assert {each for each in before if each not in self.held}.isdisjoint(names)
            if name in before:
                assert (size, row) == before[name]
            elif row is not None:
                assert row > 0 and (size, row) not in self.held.values()
                self.held[name] = size, row
                table = self.slots.table(size)
                table.labels[row] = hash(name) % 251
            else:
                assert name not in self.held

    @rule(name=NAMES)
    def release(self, name):
        self.held.pop(name, None)
        self.slots.release(name)
        self.slots.release(name)

    @invariant()
    def slots_are_those_of_their_sessions(self):
        for name, (size, row) in self.held.items():
            assert (self.slots.table(size).labels[row] == hash(name) % 251).all()

    @invariant()
    def memory_is_bounded(self):
        tables = list(self.slots._tables.values())
        taken = sum(len(table.labels) * table.layout.row_bytes for table in tables)
        assert taken <= self.max_bytes
        usage = self.slots.usage()
        assert usage.pages == len(self.held) <= usage.limit_pages
        assert usage.bytes <= usage.limit_bytes == self.max_bytes
        sizes = {size for size, _ in self.held.values()}
        assert {table.layout.size for table in tables} == sizes  # of others nothing is kept


TestSlots = Machine.TestCase
TestSlots.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


def test_the_longest_unused_session_of_the_same_size_gives_way_first():
    gone = []
    slots = make(4 * layout((4, 4)).row_bytes, gone.append)
    rows = {name: slots.acquire(name, (4, 4), {name}) for name in "abc"}
    slots.acquire("a", (4, 4), {"a"})
    assert slots.acquire("d", (4, 4), {"d"}) == rows["b"]
    assert gone == ["b"] and slots.evictions == 1


def test_an_idle_table_gives_way_to_another_size():
    gone = []
    slots = make(10 * layout((4, 4)).row_bytes, gone.append)
    for name in "ab":
        slots.acquire(name, (4, 4), {name})
    assert slots.acquire("c", (8, 6), {"c"}) is not None
    assert gone == ["a", "b"]
    assert slots.table((4, 4)) is None


def test_busy_sessions_keep_their_slots():
    slots = make(3 * layout((4, 4)).row_bytes)
    busy = {"a", "b", "c"}
    rows = [slots.acquire(name, (4, 4), busy) for name in "abc"]
    assert rows[2] is None and None not in rows[:2]
    assert slots.acquire("d", (8, 6), busy | {"d"}) is None
    assert slots.evictions == 0


def test_a_table_that_grows_keeps_what_it_has():
    table = SlotTable(layout((4, 6)), CPU)
    assert table.take() is None
    table.grow(2)
    row = table.take()
    table.keep_confidence()[row] = 9
    for name in layout((4, 6)).columns():
        getattr(table, name)[row] = 7
    table.grow(5)
    assert (table.rows, table.in_use) == (7, 1)
    for name in layout((4, 6)).columns():
        assert (getattr(table, name)[row] == 7).all() and len(getattr(table, name)) == 8
    assert (table.confidence[row] == 9).all() and len(table.confidence) == 8
    others = {table.take() for _ in range(6)}
    assert others == set(range(1, 8)) - {row} and table.take() is None


def test_a_table_that_finds_no_memory_stays_as_it_is(monkeypatch):
    table = SlotTable(layout((4, 6)), CPU)
    table.grow(2)
    before = {name: getattr(table, name) for name in layout((4, 6)).columns()}

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(torch, "cat", fail)
    with pytest.raises(torch.OutOfMemoryError):
        table.grow(2)
    assert table.rows == 2
    assert all(getattr(table, name) is tensor for name, tensor in before.items())


def test_a_row_is_as_large_as_it_says():
    table = SlotTable(layout((8, 6)), CPU)
    table.keep_confidence()
    tensors = [getattr(table, name) for name in layout((8, 6)).columns()] + [table.confidence]
    assert sum(tensor.nbytes for tensor in tensors) == layout((8, 6)).row_bytes

"""Pages belong to one session at most, and every byte is accounted for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.reuse_engines import CPU, network
from tilestream.engine.lowering.lower import lower
from tilestream.engine.memory.feature_store import FeatureStore, PagePool

PROGRAM = lower(network("pooled"), 16)
SESSION_BYTES = PROGRAM.bytes_per_session(32, 48, 4)  # 6 tiles


def make_store(max_bytes: int = 4 * SESSION_BYTES) -> FeatureStore:
    return FeatureStore(PROGRAM, max_bytes, CPU, torch.float32)


def take(store: FeatureStore, session: str, count: int) -> dict[int, np.ndarray]:
    owner = store.touch(session)
    return {stride: pool.allocate(owner, count) for stride, pool in store.pools.items()}


actions = st.lists(
    st.tuples(
        st.sampled_from(["allocate", "free", "free again", "keep", "all"]),
        st.integers(0, 3),
        st.integers(0, 12),
    ),
    max_size=40,
)  # fmt: skip


@given(actions=actions, seed=st.integers(0, 99))
def test_a_page_has_one_owner_at_most(actions, seed):
    random = np.random.default_rng(seed)
    pool, held = PagePool(20, 100), {owner: set() for owner in range(4)}
    for action, owner, count in actions:
        own = held[owner]
        if action == "allocate":
            pages = pool.allocate(owner, count)
            assert (pages is None) == (count > 20 - sum(map(len, held.values())))
            if pages is not None:
                assert len(set(pages.tolist())) == count
                assert not any(set(pages.tolist()) & others for others in held.values())
                own |= set(pages.tolist())
        elif action in ("free", "free again"):
            # pages of others among them, and some twice
            pages = random.integers(0, 20, count)
            for _ in range(1 + (action == "free again")):
                pool.free(owner, pages)
            own -= set(pages.tolist())
        elif action == "keep":
            pages = random.integers(0, 20, count)
            own &= set(pages.tolist())
            assert pool.keep_only(owner, pages) == len(own)
        else:
            pool.free_all(owner)
            own.clear()
        assert pool.available == 20 - sum(map(len, held.values()))
        assert all(pool.owned(o).tolist() == sorted(pages) for o, pages in held.items())


def test_pages_that_were_freed_last_are_used_first():
    pool = PagePool(10, 1)
    assert pool.allocate(0, 4).tolist() == [0, 1, 2, 3]
    pool.free(0, np.array([1, 2]))
    assert pool.allocate(1, 3).tolist() == [1, 2, 4]


def test_what_there_is_not_enough_of_is_not_taken_in_part():
    pool = PagePool(3, 1)
    assert pool.allocate(0, 4) is None
    assert pool.available == 3
    assert len(pool.allocate(0, 0)) == 0


def test_usage_is_exact():
    store = make_store()
    assert store.usage().in_use == 0
    assert store.usage().per_session == {}
    take(store, "a", 6)
    take(store, "b", 3)
    usage = store.usage()
    assert usage.per_session == {"a": SESSION_BYTES, "b": SESSION_BYTES // 2}
    assert usage.in_use == SESSION_BYTES * 3 // 2
    assert usage.reserved == 4 * SESSION_BYTES
    tensors = sum(tensor.numel() * 4 for tensor in store.maps.values())
    # two rows of constants in every map
    assert tensors == usage.reserved + sum(2 * 4 * node.channels for node in PROGRAM.kept)


@given(max_bytes=st.integers(0, 5 * SESSION_BYTES))
def test_no_more_is_set_aside_than_allowed(max_bytes):
    store = make_store(max_bytes)
    assert max_bytes - SESSION_BYTES / 6 < store.usage().reserved <= max_bytes
    assert len({pool.capacity for pool in store.pools.values()}) == 1


def test_releasing_twice_or_without_having_anything_does_no_harm():
    store = make_store()
    store.release("nobody")
    take(store, "a", 6)
    kept = take(store, "b", 2)
    store.release("a")
    store.release("a")
    assert store.usage().per_session == {"b": SESSION_BYTES // 3}
    taken = take(store, "a", 22)
    assert all(not set(taken[stride]) & set(pages) for stride, pages in kept.items())


def test_a_session_that_comes_back_is_another_owner():
    store = make_store()
    before = store.touch("a")
    store.release("a")
    assert store.touch("a") != before


def test_the_session_that_was_used_longest_ago():
    store = make_store()
    assert store.least_recent(excluding=set()) is None
    for session in ("a", "b", "c", "a"):
        store.touch(session)
    assert store.least_recent(excluding=set()) == "b"
    assert store.least_recent(excluding={"b", "c"}) == "a"
    assert store.least_recent(excluding={"a", "b", "c"}) is None
    store.release("b")
    assert store.least_recent(excluding=set()) == "c"


def test_constants_stand_behind_the_pages():
    store = make_store()
    assert not store.maps  # no memory before the first session
    store.touch("a")
    for node in PROGRAM.kept:
        row = store.zero_row(node.stride)
        assert row == len(store.maps[node.name]) - 2
        assert (store.maps[node.name][row] == 0).all()
        assert (store.maps[node.name][row + 1] == torch.finfo(torch.float32).min).all()


@given(height=st.integers(1, 40), width=st.integers(1, 50), scattered=st.booleans(), seed=st.integers(0, 99))
def test_whole_maps_are_written_tile_by_tile(height, width, scattered, seed):
    store, random = make_store(20 * SESSION_BYTES), np.random.default_rng(seed)
    bins = PROGRAM.bins(height, width)
    pages = take(store, "a", bins[0] * bins[1])
    height, width = PROGRAM.padded(height, width)
    for node in PROGRAM.kept:
        tile, own = PROGRAM.tile(node.stride), pages[node.stride]
        own = random.permutation(own) if scattered else own
        values = torch.randn(node.channels, height // node.stride, width // node.stride)
        store.write_whole(node, values, own, bins)
        for index, page in enumerate(own):
            y, x = divmod(index, bins[1])
            part = values[:, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
            found = store.maps[node.name][page * tile**2 : (page + 1) * tile**2].view(tile, tile, -1)
            assert torch.equal(found[: part.shape[1], : part.shape[2]].permute(2, 0, 1), part)


@pytest.mark.parametrize("tiles", [0, 5, 6])
def test_whether_a_session_fits_at_all(tiles):
    store = make_store(tiles * SESSION_BYTES // 6)
    assert store.fits(32, 48) == (tiles == 6)
    assert store.fits(32, 32) == (tiles >= 4)


def test_memory_that_does_not_suffice_is_asked_for_again(monkeypatch):
    store, empty, calls = make_store(), torch.empty, []

    def scarce(*sizes, **options):
        calls.append(sizes)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("full")
        return empty(*sizes, **options)

    monkeypatch.setattr("tilestream.engine.memory.feature_store.torch.empty", scarce)
    with pytest.raises(torch.OutOfMemoryError):
        store.touch("a")
    assert not store.maps
    store.touch("a")
    assert set(store.maps) == set(store.pages) == {node.name for node in PROGRAM.kept}

"""Work is done as it comes twice, and from then on as a graph, if the device has graphs and takes it."""

import torch

from tilestream.engine.resident.captured import Captured, GraphPool


class Graph:
    def __init__(self, work):
        self.work, self.replays = work, 0

    def replay(self):
        self.replays += 1
        self.work()


class FakePool:
    """Graphs that do the work when they are replayed, into the results of the capture."""

    captures = True

    def __init__(self, error=None):
        self.captured, self.error = [], error

    def capture(self, work):
        if self.error is not None:
            self.captured.append(None)
            raise self.error
        result = []
        graph = Graph(lambda: result.append(work()))
        self.captured.append(graph)
        return graph, result


def counter():
    calls = []

    def work():
        calls.append(len(calls))
        return calls[-1]

    return work, calls


def test_twice_eager_then_captured_once_and_replayed():
    work, calls = counter()
    pool = FakePool()
    captured = Captured(work, pool)
    assert [captured(), captured()] == [0, 1] and not pool.captured
    for times in range(1, 4):
        result = captured()
        assert len(pool.captured) == 1 and pool.captured[0].replays == times
        assert result == calls[2:]  # where the graph puts its results
    assert len(calls) == 5  # capturing is not doing


def test_what_cannot_be_captured_is_done_as_it_comes():
    work, calls = counter()
    pool = FakePool(RuntimeError("operation not permitted when stream is capturing"))
    captured = Captured(work, pool)
    assert [captured() for _ in range(5)] == calls == [0, 1, 2, 3, 4]
    assert len(pool.captured) == 1  # it is not tried again


def test_devices_without_graphs_are_not_asked_for_any():
    work, calls = counter()
    pool = GraphPool(torch.device("cpu"))
    assert not pool.captures
    assert [Captured(work, pool)() for _ in range(4)] == calls
    captured = Captured(work, pool)
    assert [captured() for _ in range(4)] == calls[4:]

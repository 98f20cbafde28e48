"""Work of fixed shape as one launch: a CUDA graph, from the third time on that it is done."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

log = logging.getLogger(__name__)

T = TypeVar("T")
_EAGER_RUNS = 2  # in which kernels are chosen and compiled


class GraphPool:
    """Memory that all graphs share for what lies between their inputs and their results.

    So a result is good until the next graph is run: who needs it longer has to copy it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._handle: Any = None

    @property
    def captures(self) -> bool:
        """Whether the device has graphs."""
        return self._device.type == "cuda"

    def capture(self, work: Callable[[], T]) -> tuple[torch.cuda.CUDAGraph, T]:
        """A graph of ``work``, which is not done yet, and where its results will be.

        Other threads may use the device meanwhile. Raises RuntimeError for what cannot be captured.
        """
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        # As torch.cuda.graph does, but without emptying caches and collecting garbage, which takes longer
        # than many steps; garbage that is collected meanwhile could call the device, so none is.
        with _no_garbage_collection(), torch.cuda.stream(stream):
            graph.capture_begin(pool=self._handle, capture_error_mode="thread_local")
            try:
                result = work()
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        return graph, result


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Captured(Generic[T]):
    """``work``: reads and writes the same memory whenever it is called, and asks the device for nothing."""

    def __init__(self, work: Callable[[], T], pool: GraphPool) -> None:
        self._work, self._pool = work, pool
        self._runs = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: T | None = None

    def __call__(self) -> T:
        """Do the work."""
        self._runs += 1
        if self._runs == _EAGER_RUNS + 1 and self._pool.captures:
            try:
                self._graph, self._result = self._pool.capture(self._work)
            except RuntimeError as error:
                log.warning("a batch cannot be captured as a CUDA graph and will be slower: %s", error)
        if self._graph is None or self._result is None:
            return self._work()
        self._graph.replay()
        return self._result

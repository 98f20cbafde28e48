"""Several engines, each with a thread, a scheduler and sessions of its own; one is the common case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from tilestream.messages import Engine, EngineInfo, Frame, SessionSpec
from tilestream.scheduling.engine_loop import EngineLoop, StepReport
from tilestream.scheduling.overload import Level, LoadReport
from tilestream.scheduling.scheduler import Scheduler


class EngineGroup:
    """Places sessions on engines; a session stays where its features are. From any thread.

    The callbacks are those of :class:`EngineLoop`, called in any of the engines' threads.
    """

    def __init__(
        self,
        make_engines: Sequence[Callable[[], Engine]],
        make_scheduler: Callable[[], Scheduler],
        on_step: Callable[[StepReport], None],
        on_death: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loops = [
            EngineLoop(make, make_scheduler(), on_step, on_death, number, clock)
            for number, make in enumerate(make_engines)
        ]
        self._lock = threading.Lock()
        self._places: dict[str, EngineLoop] = {}

    def start(self) -> list[Future[EngineInfo]]:
        """Make the engines and begin; each future has what its engine offers, or what went wrong."""
        return [loop.start() for loop in self._loops]

    def stop(self, timeout: float | None = None) -> bool:
        """Finish the steps that run, close the engines. False if one took longer than ``timeout`` seconds."""
        stopping = [threading.Thread(target=loop.stop, args=(timeout,)) for loop in self._loops]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        return all(loop.stop(0.0) for loop in self._loops)

    def open(self, spec: SessionSpec) -> Future[None]:
        """Prepare a session on the engine with the fewest of them, of those engines that keep up.

        See :meth:`EngineLoop.open`.
        """
        refusing = {loop for loop in self._loops if loop.load().level >= Level.REFUSING}
        with self._lock:
            placed = list(self._places.values())
            loop = min(self._loops, key=lambda loop: (loop in refusing, placed.count(loop)))
            self._places[spec.session_id] = loop
        return loop.open(spec)

    def release(self, session_id: str) -> Future[None]:
        """Forget a session. Idempotent; see :meth:`EngineLoop.release`."""
        with self._lock:
            loop = self._places.pop(session_id, None)
        if loop is None:
            done: Future[None] = Future()
            done.set_result(None)
            return done
        return loop.release(session_id)

    def offer(self, frame: Frame) -> bool:
        """A frame is ready. False: its session is gone."""
        loop = self._places.get(frame.session_id)
        return loop is not None and loop.offer(frame)

    def withdraw(self, session_id: str, frame_id: int) -> bool:
        """Take a frame back before it is computed. False if it is too late for that."""
        loop = self._places.get(session_id)
        return loop is not None and loop.withdraw(session_id, frame_id)

    def finish(self, session_id: str) -> None:
        """No more frames of a session will come than were offered."""
        loop = self._places.get(session_id)
        if loop is not None:
            loop.finish(session_id)

    def load(self) -> LoadReport:
        """Of the engine with the least to do about its load."""
        return min(self.loads(), key=lambda load: (load.level, load.demand))

    def loads(self) -> list[LoadReport]:
        """Of every engine."""
        return [loop.load() for loop in self._loops]

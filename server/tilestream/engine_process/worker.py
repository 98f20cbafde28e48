"""The process of an engine: makes it, and does what it is asked until nobody asks any more."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from tilestream.engine_process.arena import Arena
from tilestream.engine_process.wire import Parcel, Reply, pack, unpack
from tilestream.messages import Engine, EngineError, EngineInfo, EngineReport, SessionSpec, StepPlan

log = logging.getLogger(__name__)


def run(connection: Connection, make_engine: Callable[[], Engine], begin: Callable[[], None]) -> None:
    """The whole life of the process. ``begin``: called first, to set up logging, say."""
    # Ctrl-C and a supervisor's SIGTERM reach all processes of the server; it will end us when it is done.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    begin()
    try:
        arena = Arena(reduction.recv_handle(connection))
        reply, worker = _attempt(lambda: _Worker(make_engine(), arena))
        connection.send((reply, worker.ready() if isinstance(worker, _Worker) else worker))
        if isinstance(worker, _Worker):
            worker.serve(connection)
    except (EOFError, ConnectionError):
        pass  # the server is gone


def _attempt(work: Callable[[], Any]) -> tuple[Reply, Any]:
    """Do it, and say how it went."""
    try:
        return Reply.OK, work()
    except EngineError as error:
        return Reply.ERROR, str(error)
    except Exception as error:
        log.exception("the engine failed")
        return Reply.FAULT, f"{type(error).__name__} in the engine's process; see the log"


class _Worker:
    """An engine and the memory that it shares with the server."""

    def __init__(self, engine: Engine, arena: Arena) -> None:
        self._engine, self._arena = engine, arena
        self._verbs: dict[str, Callable[[Any], Any]] = {
            "open": self._open,
            "release": self._release,
            "step": self._step,
            "report": self._report,
        }

    def ready(self) -> tuple[EngineInfo, EngineReport]:
        """What there is now."""
        return self._engine.info, self._engine.report()

    def serve(self, connection: Connection) -> None:
        """Until the server closes the engine or is gone."""
        while True:
            verb, argument = connection.recv()
            if verb == "close":
                self._engine.close()
                return
            connection.send(_attempt(lambda: self._verbs[verb](argument)))  # noqa: B023 (called here)

    def _open(self, spec: SessionSpec) -> EngineReport:
        self._engine.open(spec)
        return self._engine.report()

    def _release(self, session_id: str) -> EngineReport:
        self._engine.release(session_id)
        return self._engine.report()

    def _report(self, argument: None) -> EngineReport:
        return self._engine.report()

    def _step(self, parcel: Parcel) -> Parcel:
        """Outcomes and report go behind the frames: nothing that is still read may be written over."""
        frames, due = unpack(parcel, self._arena, copy=False)
        outcomes = self._engine.step(StepPlan(frames, due=due))
        return pack((outcomes, self._engine.report()), self._arena, parcel.end)

"""One process of an engine as the server sees it: started, asked, ended."""

from __future__ import annotations

import atexit
import contextlib
import logging
import multiprocessing
import multiprocessing.util  # its own exit handler has to be there before ours, which then comes first
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any, TypeVar

from tilestream.engine_process import worker
from tilestream.engine_process.arena import Arena
from tilestream.engine_process.wire import Reply
from tilestream.messages import Engine, EngineError, EngineInfo, EngineReport

log = logging.getLogger(__name__)

T = TypeVar("T")

START_SECONDS = 300.0  # to load models, at the most
CLOSE_SECONDS = 5.0

# New processes are forked from one that has torch imported but no threads and no device yet: that is
# quicker than to begin from nothing, and nothing of this process's state comes along.
_context = multiprocessing.get_context("forkserver")


def preload(modules: Sequence[str]) -> None:
    """Modules that every engine process begins with; to be called before the first one is started."""
    _context.set_forkserver_preload(list(modules))


def ask_a_process(question: Callable[[], T]) -> T:
    """What a function answers in a process like the engines', for what this one should not import.

    Raises what it raises, and BrokenProcessPool, an OSError or EOFError where no process can be had.
    """
    with ProcessPoolExecutor(1, mp_context=_context) as pool:
        return pool.submit(question).result()


_running: weakref.WeakSet[ProcessHandle] = weakref.WeakSet()
_starting = threading.Lock()  # held while a process is started, so that none is missed at the end
_over = False  # this process ends: no more are started


@atexit.register
def _end_all() -> None:
    """A server that ends without closing its engines: multiprocessing would ask them to and wait for ever.

    A thread that still runs would put another process in the place of one that it finds dead.
    """
    global _over
    with _starting:
        _over = True
        for handle in list(_running):
            handle.kill()


class EngineDied(Exception):  # noqa: N818 (the name says it)
    """The process is gone, or does not answer."""


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """How to make one. Both functions are pickled and run in the process; ``begin`` comes first.

    ``answer_seconds``: a process that takes longer for an answer is held to be dead.
    """

    make_engine: Callable[[], Engine]
    begin: Callable[[], None] = _nothing
    answer_seconds: float = 30.0


class ProcessHandle:
    """A process, its pipe and the memory shared with it."""

    def __init__(self, how: EngineProcess) -> None:
        """Start it; it makes its engine meanwhile, see :meth:`wait`. Raises OSError where none can be had."""
        self._seconds = how.answer_seconds
        self._ready: tuple[EngineInfo, EngineReport] | None = None
        self._connection, theirs = _context.Pipe()
        self._process = _context.Process(
            target=worker.run, args=(theirs, how.make_engine, how.begin), daemon=True
        )
        self._ended = False
        with _starting:
            if _over:
                raise OSError("this process ends")
            self._process.start()
            _running.add(self)
        theirs.close()  # else the end of the process would not be noticed
        self.process_id: int = self._process.pid or 0
        self.arena = Arena()
        with contextlib.suppress(OSError):  # it is dead already: whoever waits for it will hear that
            reduction.send_handle(self._connection, self.arena.file, self.process_id)

    def wait(self) -> tuple[EngineInfo, EngineReport]:
        """What its engine is and has, as soon as there is one. Raises what :meth:`ask` raises."""
        if self._ready is None:
            self._ready = self._answer(START_SECONDS)
        return self._ready

    @property
    def ended(self) -> bool:
        """Whether it was made an end of, see :meth:`end`."""
        return self._ended

    def alive(self) -> bool:
        """Whether it runs."""
        return not self._ended and self._process.is_alive()

    def last_words(self) -> str:
        """Why a process that stood by is dead."""
        try:
            self._answer(0.0)
        except (EngineError, RuntimeError, EngineDied) as error:
            return str(error)
        return "it was ready, and ended by itself"

    def ask(self, verb: str, argument: object) -> Any:
        """Its answer. Raises EngineError, RuntimeError for a fault in the process, and EngineDied."""
        try:
            self._connection.send((verb, argument))
        except OSError as error:
            raise EngineDied("it is gone") from error
        return self._answer(self._seconds)

    def close(self) -> None:
        """Let it close its engine, and end it. Idempotent."""
        if not self._ended:
            try:
                self._connection.send(("close", None))
                self._process.join(CLOSE_SECONDS)
            except OSError:
                pass  # it is gone already
            self.end()

    def kill(self) -> None:
        """End it at once, whatever another thread is doing with it."""
        if not self._ended:
            self._process.kill()

    def end(self) -> None:
        """See to it that nothing is left of it. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._connection.close()
        self.arena.close()
        self._process.kill()
        self._process.join(CLOSE_SECONDS)
        if self._process.is_alive():  # a device driver may hold on to it
            log.error("an engine process does not die; it is left alone", extra={"pid": self.process_id})
        else:
            self._process.close()

    def _answer(self, seconds: float) -> Any:
        try:
            if not self._connection.poll(seconds):
                raise EngineDied(f"no answer for {seconds:g} s")
            reply, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise EngineDied("it is gone") from error
        if reply is Reply.ERROR:
            raise EngineError(value)
        if reply is Reply.FAULT:
            raise RuntimeError(value)
        return value

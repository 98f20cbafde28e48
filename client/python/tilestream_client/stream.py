"""The plain (blocking) stream: results as a generator, sending and receiving in the background."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from tilestream_client.channel import Endpoint
from tilestream_client.errors import ConnectionFailed, SessionClosed, TilestreamError
from tilestream_client.exchange import Exchange, Step
from tilestream_client.info import Draining, Session
from tilestream_client.reconnect import Reconnect
from tilestream_client.result import Result
from tilestream_client.sources import FrameLike, as_frame
from tilestream_client.v1 import segmentation_pb2 as pb

StartCall = Callable[[Iterator[pb.StreamSegmentRequest]], Any]
_JOIN_SECONDS = 1.0  # for a thread that may be inside the user's iterator


class Stream:
    """One session. Iterate it once for the results; leaving the loop early ends the session.

    The frames are read and encoded in a thread of their own, and never more than the window ahead of
    your loop (see StreamConfig.frames_in_flight). An exception of your iterator is raised from the
    loop, after the answers to the frames before it. The call is made when the stream is first used.
    """

    def __init__(self, driver: Driver, source: Iterable[FrameLike]) -> None:
        self.source = source
        self._driver = driver
        self._used = False
        # The driver's threads do not know this object: once nobody does, the call ends.
        self._finalizer = weakref.finalize(self, driver.close)

    def __iter__(self) -> Iterator[Result]:
        """One Result per frame sent, in order. Raises TilestreamError (see ``errors``) when it fails."""
        if self._used:
            raise SessionClosed("a stream can be iterated only once")
        self._used = True
        try:
            self._driver.open()
            while (result := self._driver.take()) is not None:
                yield result
        finally:
            self.close()

    def __enter__(self) -> Stream:
        """Open the session."""
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        """End the session."""
        self.close()

    def open(self) -> Session:
        """Open the session if it is not, and wait until the server has confirmed it."""
        return self._driver.open()

    @property
    def session(self) -> Session:
        """The session, with its model, limits and resume token; opens it if it is not."""
        return self._driver.open()

    @property
    def draining(self) -> Draining | None:
        """The server's notice that it ends this stream soon, None so far."""
        return self._driver.exchange.draining

    @property
    def reconnects(self) -> int:
        """How often the stream was lost and opened again so far."""
        return self._driver.exchange.reconnects

    @property
    def frames_sent(self) -> int:
        """Frames sent so far."""
        return self._driver.exchange.frames_sent

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Ids of the frames sent that have no answer so far."""
        return self._driver.unanswered()

    def close(self) -> None:
        """End the session at once, whatever is under way; may be called again and from other threads."""
        self._finalizer()


class Driver:
    """The threads of one stream around its Exchange, all under one condition.

    Three threads: one reads and encodes frames, one (gRPC's) draws requests, one reads answers and calls
    again where the stream was lost.
    """

    def __init__(
        self,
        config: pb.SessionConfig,
        source: Iterable[FrameLike],
        start_call: StartCall,
        endpoint: Endpoint,
        *,
        quality: int,
        timeout: float,
        reconnect: Reconnect,
        reordered: bool = True,
    ) -> None:
        self.exchange = Exchange(config, reconnect=reconnect, reordered=reordered)
        self._source = source
        self._start_call = start_call
        self._endpoint = endpoint
        self._quality = quality
        self._timeout = timeout
        self._changed = threading.Condition()  # guards the exchange and the fields below
        self._call: Any = None
        self._threads: list[threading.Thread] = []

    def open(self) -> Session:
        """Start the call if it is not, and wait for the session. Raises what the server refuses it with."""
        with self._changed:
            if self._call is None and not self.exchange.finished:
                self._start()
            self._changed.wait_for(self._is_answered, self._timeout)
            if self.exchange.session is not None:
                return self.exchange.session
            finished = self.exchange.finished
        if not finished:
            self.close(
                ConnectionFailed(f"{self._endpoint.target} did not open a session within {self._timeout:g} s")
            )
        with self._changed:
            self.exchange.take()  # raises
        raise SessionClosed("the server ended the stream without a word")

    def take(self) -> Result | None:
        """Wait for the next result; None at the end. Raises what the stream ended with."""
        with self._changed:
            while (step := self.exchange.take()) is Step.WAIT:
                self._changed.wait()
            self._changed.notify_all()  # there is room for another frame
            return step if isinstance(step, Result) else None

    def unanswered(self) -> tuple[int, ...]:
        """Ids of the frames sent that have no answer so far."""
        with self._changed:
            return self.exchange.unanswered

    def close(self, error: TilestreamError | None = None) -> None:
        """Cancel what is under way and wait for the threads, a moment for one inside the user's iterator."""
        with self._changed:
            self.exchange.finish(error or SessionClosed("the stream was closed"))
            call, threads = self._call, self._threads
        if call is not None:
            call.cancel()  # before anyone is woken: the requests' end would half-close the stream first
        with self._changed:
            self._changed.notify_all()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_SECONDS)

    def _start(self) -> None:
        try:
            self._call = self._start_call(self._requests(0))
        except ValueError as error:  # so gRPC says that the channel is closed
            raise SessionClosed("the client is closed") from error
        for work in (self._read_frames, self._run_calls):
            thread = threading.Thread(target=work, name=f"tilestream{work.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _is_answered(self) -> bool:
        return self.exchange.session is not None or self.exchange.finished

    def _read_frames(self) -> None:
        """Thread: read and encode one frame whenever there is a place for it."""
        error: BaseException | None = None
        try:
            if not self._wait_for_place():
                return
            for item in self._source:
                frame = as_frame(item)
                data = frame.encoded(self._quality)
                with self._changed:
                    self.exchange.offer(frame, data)
                    self._changed.notify_all()
                if not self._wait_for_place():
                    return
        except BaseException as raised:  # it is the caller's and raised there
            error = raised
        with self._changed:
            self.exchange.source_ended(error)
            self._changed.notify_all()

    def _wait_for_place(self) -> bool:
        exchange = self.exchange
        with self._changed:
            self._changed.wait_for(lambda: exchange.wants_frame or exchange.source_unwanted)
            return exchange.wants_frame

    def _requests(self, number: int) -> Iterator[pb.StreamSegmentRequest]:
        """Of one call. Drawn by gRPC's own thread; ending it half-closes the call."""
        with self._changed:
            opening = self.exchange.opening_request()
        yield opening
        while True:
            with self._changed:
                while (step := self.exchange.next_request(number)) is Step.WAIT:
                    self._changed.wait(self.exchange.seconds_to_heartbeat())
                self._changed.notify_all()
            if isinstance(step, Step):
                return
            yield step

    def _run_calls(self) -> None:
        """Thread: take in answers until the stream is over, however many calls that takes."""
        number = 0
        while True:
            error = self._read_answers(number)
            with self._changed:
                self.exchange.ended(error, number)
                self._changed.notify_all()
                while (wait := self.exchange.seconds_to_retry()) is not None and wait > 0:
                    self._changed.wait(wait)
                if wait is None:
                    return
                number = self.exchange.begin_again()
                try:
                    self._call = self._start_call(self._requests(number))
                except ValueError:  # so gRPC says that the channel is closed
                    self.exchange.finish(SessionClosed("the client is closed"))
                    self._changed.notify_all()
                    return

    def _read_answers(self, number: int) -> BaseException | None:
        """Take in the answers of one call; returns what it ended with."""
        call = self._call
        hurry = threading.Timer(self._timeout, self._cancel_unopened, (call, number))
        hurry.daemon = True
        if number:  # open() waits for the first one itself
            hurry.start()
        try:
            for response in call:
                with self._changed:
                    self.exchange.receive(response, number)
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            return self._endpoint.failure(raised, started=self.exchange.is_open(number))
        except Exception as raised:
            call.cancel()
            return raised
        finally:
            hurry.cancel()
        return None

    def _cancel_unopened(self, call: Any, number: int) -> None:
        with self._changed:
            opened = self.exchange.is_open(number)
        if not opened:
            call.cancel()

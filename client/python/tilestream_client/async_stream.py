"""The asyncio stream: results as an async generator, sending and receiving in tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tilestream_client.channel import Endpoint
from tilestream_client.errors import ConnectionFailed, SessionClosed, TilestreamError
from tilestream_client.exchange import Exchange, Step
from tilestream_client.info import Draining, Session
from tilestream_client.reconnect import Reconnect
from tilestream_client.result import Result
from tilestream_client.sources import Frame, FrameLike, as_frame
from tilestream_client.v1 import segmentation_pb2 as pb

Source = AsyncIterable[FrameLike] | Iterable[FrameLike]


class AsyncStream:
    """One session. Iterate it once with ``async for``; leaving the loop early ends the session.

    Within ``async with`` the session has ended when the block is left; without it asyncio ends it
    soon after the loop was left. Plain iterators and JPEG encoding run in a thread.
    """

    def __init__(self, driver: AsyncDriver, source: Source) -> None:
        self.source = source
        self._driver = driver
        self._used = False

    async def __aiter__(self) -> AsyncIterator[Result]:
        """One Result per frame sent, in order. Raises TilestreamError (see ``errors``) when it fails."""
        if self._used:
            raise SessionClosed("a stream can be iterated only once")
        self._used = True
        try:
            await self._driver.open()
            while (result := await self._driver.take()) is not None:
                yield result
        finally:
            await self.close()

    async def __aenter__(self) -> AsyncStream:
        """Open the session."""
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the session."""
        await self.close()

    async def open(self) -> Session:
        """Open the session if it is not, and wait until the server has confirmed it."""
        return await self._driver.open()

    @property
    def session(self) -> Session:
        """The session, with its model, limits and resume token. Raises SessionClosed before it is open."""
        session = self._driver.exchange.session
        if session is None:
            raise SessionClosed("the session is not open yet: await stream.open() first")
        return session

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
        return self._driver.exchange.unanswered

    async def close(self) -> None:
        """End the session at once, whatever is under way; may be called again."""
        await self._driver.close()


class AsyncDriver:
    """The tasks of one stream around its Exchange: one reads frames, one sends, one reads answers.

    The last one calls again where the stream was lost.
    """

    def __init__(
        self,
        config: pb.SessionConfig,
        source: Source,
        start_call: Callable[[], Any],
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
        self._changed = asyncio.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it was opened
        self._call: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        # Its thread starts on first use.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="tilestream")

    async def open(self) -> Session:
        """Start the call if it is not, and wait for the session. Raises what the server refuses it with."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._check_loop()
        if self._call is None and not self.exchange.finished:
            self._start()
        try:
            async with asyncio.timeout(self._timeout), self._changed:
                await self._changed.wait_for(
                    lambda: self.exchange.session is not None or self.exchange.finished
                )
        except TimeoutError:
            text = f"{self._endpoint.target} did not open a session within {self._timeout:g} s"
            await self.close(ConnectionFailed(text))
        if self.exchange.session is None:
            self.exchange.take()  # raises
            raise SessionClosed("the server ended the stream without a word")
        return self.exchange.session

    async def take(self) -> Result | None:
        """Wait for the next result; None at the end. Raises what the stream ended with."""
        self._check_loop()
        async with self._changed:
            while (step := self.exchange.take()) is Step.WAIT:
                await self._changed.wait()
            self._changed.notify_all()  # there is room for another frame
        return step if isinstance(step, Result) else None

    async def close(self, error: TilestreamError | None = None) -> None:
        """Cancel what is under way. A thread inside the user's iterator is left to finish by itself."""
        self._check_loop()
        self.exchange.finish(error or SessionClosed("the stream was closed"))
        if self._call is not None:
            self._call.cancel()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._worker.shutdown(wait=False, cancel_futures=True)
        async with self._changed:
            self._changed.notify_all()

    def _check_loop(self) -> None:
        if self._loop not in (None, asyncio.get_running_loop()):
            raise TilestreamError(
                "this stream belongs to the event loop in which it was opened; make another one"
            )

    def _start(self) -> None:
        try:
            self._call = self._start_call()
        except (grpc.aio.UsageError, ValueError) as error:  # so gRPC says that the channel is closed
            raise SessionClosed("the client is closed") from error
        work = (self._read_frames(), self._run_calls())
        self._tasks = [asyncio.create_task(coroutine) for coroutine in work]

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _read_frames(self) -> None:
        """Task: read and encode one frame whenever there is a place for it."""
        error: BaseException | None = None
        try:
            if not await self._wait_for_place():
                return
            async for frame, data in self._encoded_frames():
                self.exchange.offer(frame, data)
                await self._tell()
                if not await self._wait_for_place():
                    return
        except asyncio.CancelledError:
            raise
        except BaseException as raised:  # it is the caller's and raised there
            error = raised
        self.exchange.source_ended(error)
        await self._tell()

    async def _encoded_frames(self) -> AsyncIterator[tuple[Frame, bytes]]:
        if isinstance(self._source, AsyncIterable):
            async for item in self._source:
                frame = as_frame(item)
                yield frame, await self._in_thread(frame.encoded, self._quality)
            return
        frames = self._encode_all(self._source)
        while (pair := await self._in_thread(next, frames, None)) is not None:
            yield pair

    def _encode_all(self, source: Iterable[FrameLike]) -> Iterator[tuple[Frame, bytes]]:
        for item in source:
            frame = as_frame(item)
            yield frame, frame.encoded(self._quality)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *args)

    async def _wait_for_place(self) -> bool:
        exchange = self.exchange
        async with self._changed:
            await self._changed.wait_for(lambda: exchange.wants_frame or exchange.source_unwanted)
            return exchange.wants_frame

    async def _run_calls(self) -> None:
        """Task: take in answers until the stream is over, however many calls that takes."""
        number = 0
        while True:
            call = self._call
            sending = asyncio.create_task(self._send(call, number))
            try:
                error = await self._read_answers(call, number)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            self.exchange.ended(error, number)
            await self._tell()
            if (wait := self.exchange.seconds_to_retry()) is None:
                return
            await asyncio.sleep(wait)
            number = self.exchange.begin_again()
            try:
                self._call = self._start_call()
            except (grpc.aio.UsageError, ValueError):  # so gRPC says that the channel is closed
                self.exchange.finish(SessionClosed("the client is closed"))
                await self._tell()
                return

    async def _send(self, call: Any, number: int) -> None:
        """Task: write the requests of a call; how it ends the answers tell, so nothing is said of it here."""
        try:
            await call.write(self.exchange.opening_request())
            while not isinstance(request := await self._next_request(number), Step):
                await call.write(request)
            await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass

    async def _next_request(self, number: int) -> pb.StreamSegmentRequest | Step:
        async with self._changed:
            while (step := self.exchange.next_request(number)) is Step.WAIT:
                try:
                    async with asyncio.timeout(self.exchange.seconds_to_heartbeat()):
                        await self._changed.wait()
                except TimeoutError:
                    pass
            self._changed.notify_all()
            return step

    async def _read_answers(self, call: Any, number: int) -> BaseException | None:
        """Take in the answers of one call; returns what it ended with."""
        hurry = None
        if number:  # open() waits for the first one itself
            loop = asyncio.get_running_loop()
            hurry = loop.call_later(self._timeout, self._cancel_unopened, call, number)
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                self.exchange.receive(response, number)
                await self._tell()
        except grpc.aio.AioRpcError as raised:
            return await self._endpoint.aio_failure(raised, started=self.exchange.is_open(number))
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise  # by close()
            return self._cancelled(number)
        except Exception as raised:
            call.cancel()
            return raised
        finally:
            if hurry is not None:
                hurry.cancel()
        return await self._status_error(call, number)

    def _cancel_unopened(self, call: Any, number: int) -> None:
        if not self.exchange.is_open(number):
            call.cancel()

    def _cancelled(self, number: int) -> TilestreamError:
        """A call was cancelled, and not by close()."""
        if number and not self.exchange.is_open(number):
            return ConnectionFailed(
                f"{self._endpoint.target} did not open a session within {self._timeout:g} s"
            )
        return SessionClosed("the call was cancelled")

    async def _status_error(self, call: Any, number: int) -> TilestreamError | None:
        """read() ends quietly on some statuses other than OK; the status itself tells."""
        code = await call.code()
        if code is grpc.StatusCode.OK:
            return None
        raised = grpc.aio.AioRpcError(
            code,
            initial_metadata=await call.initial_metadata(),
            trailing_metadata=await call.trailing_metadata(),
            details=await call.details(),
        )
        return await self._endpoint.aio_failure(raised, started=self.exchange.is_open(number))

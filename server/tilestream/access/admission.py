"""How much of everything a caller may have now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tilestream.access.buckets import Bucket
from tilestream.access.caller import Caller
from tilestream.access.lobby import Lobby
from tilestream.access.policy import Policies, Policy
from tilestream.access.refusals import NotAllowed, TooManyCalls, TooManyStreams
from tilestream.config import Settings
from tilestream.messages import ModelInfo

_CALL_BURST = 2.0  # seconds' worth of calls that may come at once
_FRAME_BURST = 1.0  # seconds' worth of frames
_MANY = 4096  # holders that are remembered before those with nothing open are looked through


@dataclass(slots=True)
class _Account:
    """What a holder uses now."""

    streams: int = 0
    calls: Bucket = field(default_factory=Bucket)
    frames: Bucket = field(default_factory=Bucket)


class Admission:
    """Counts what callers have, against their policies and the settings. Used from one thread.

    ``policies``: those in force now. ``clock``: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, policies: Callable[[], Policies], clock: Callable[[], float]
    ) -> None:
        self._settings, self._policies, self._clock = settings, policies, clock
        self._accounts: dict[str, _Account] = {}
        self._streams = 0
        self._max_streams = settings.max_streams or 2 * settings.max_sessions + 64
        unconfigured = settings.max_unconfigured_streams
        self.lobby = Lobby(unconfigured, 4 * unconfigured, settings.retry_delay)

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._streams

    def policy(self, caller: Caller) -> Policy:
        """What the caller may do."""
        return self._policies().of(caller.identity)

    def settings(self, caller: Caller) -> Settings:
        """The server's settings as they hold for this caller."""
        policy, server = self.policy(caller), self._settings
        return server.model_copy(
            update={
                "max_frame_bytes": _least(policy.max_frame_bytes, server.max_frame_bytes),
                "max_frame_pixels": _least(policy.max_frame_pixels, server.max_frame_pixels),
                "max_frames_per_second": self._frame_rate(policy),
            }
        )

    def models(self, caller: Caller, served: tuple[ModelInfo, ...]) -> tuple[ModelInfo, ...]:
        """Those of the served models that the caller may use, its default first.

        Raises :class:`NotAllowed` if there is none.
        """
        names = self.policy(caller).models
        if names is None:
            return served
        by_name = {model.name: model for model in served}
        allowed = tuple(by_name[name] for name in names if name in by_name)
        if not allowed:
            raise NotAllowed(f"{_called(caller)} may use none of the models that are served here")
        return allowed

    def most_sessions(self, caller: Caller) -> int:
        """How many sessions it may have, suspended ones among them. Raises :class:`NotAllowed` for none."""
        most = self.policy(caller).sessions
        if most == 0:
            raise NotAllowed(f"{_called(caller)} may not open sessions")
        return most or self._settings.max_sessions_per_caller or self._settings.max_sessions

    def take_call(self, caller: Caller) -> None:
        """Count a call that is not a stream. Raises :class:`TooManyCalls`."""
        policy = self.policy(caller)
        rate = policy.calls_per_second or self._settings.max_calls_per_second
        if not rate or policy.administers:
            return
        calls = self._account(caller).calls
        wait = calls.wait(self._clock(), rate, _CALL_BURST * rate)
        if wait > 0:
            raise TooManyCalls(f"more than {rate:g} calls per second", max(wait, self._settings.retry_delay))
        calls.take()

    def takes_frame(self, caller: Caller) -> bool:
        """Whether one more frame is within the caller's rate now; :meth:`count_frame` uses that up."""
        rate = self._frame_rate(self.policy(caller))
        frames = self._account(caller).frames if rate else None
        return frames is None or frames.wait(self._clock(), rate, _FRAME_BURST * rate) <= 0

    def count_frame(self, caller: Caller) -> None:
        """A frame was taken that :meth:`takes_frame` let through."""
        self._account(caller).frames.take()

    @contextlib.contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        """A stream of the caller is open. Raises :class:`TooManyStreams`."""
        most = self.policy(caller).streams or self._settings.max_streams_per_caller
        most = most or self.most_sessions(caller) + self._settings.max_unconfigured_streams
        account, retry = self._account(caller), self._settings.retry_delay
        if account.streams >= most:
            raise TooManyStreams(f"all {most} streams of {_called(caller)} are open", retry)
        if self._streams >= self._max_streams and not self.lobby.clear_a_place():
            raise TooManyStreams(f"all {self._max_streams} streams of this server are open", retry)
        account.streams += 1
        self._streams += 1
        try:
            yield
        finally:
            account.streams -= 1
            self._streams -= 1

    def _frame_rate(self, policy: Policy) -> float:
        return policy.frames_per_second or self._settings.max_frames_per_second

    def _account(self, caller: Caller) -> _Account:
        account = self._accounts.get(caller.holder)
        if account is None:
            if len(self._accounts) >= _MANY:
                self._forget()
            account = self._accounts[caller.holder] = _Account()
        return account

    def _forget(self) -> None:
        """Let go of accounts of which nothing is left to remember."""
        now = self._clock()
        for holder, account in list(self._accounts.items()):
            # A rate of 1 remembers longer than any that matters.
            if not account.streams and account.calls.is_full(now, 1.0) and account.frames.is_full(now, 1.0):
                del self._accounts[holder]


def _called(caller: Caller) -> str:
    return f"the identity {caller.identity!r}" if caller.identity else "an anonymous caller"


def _least(own: int | None, every: int) -> int:
    return every if own is None else min(own, every)

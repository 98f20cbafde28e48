"""Rules: what of a session holds, from frame to frame, and the events that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilestream.results.findings import Event, EventKind
from tilestream.results.wishes import Rule


@dataclass(slots=True)
class _State:
    """``since``: from when on it was otherwise than the rule says, microseconds; None: it is not."""

    holds: bool = False
    since: int | None = None


class RuleBook:
    """The rules of a session and what of them holds. It outlives the session's streams.

    Only frames with labels count, in their order; what lies between two of them is taken to be as in the
    earlier one. So dropped frames, and a camera that is silent, neither end nor delay an event by themselves.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._states = [_State() for _ in rules]

    def observe(self, exceeded: Sequence[bool], time_us: int) -> tuple[Event, ...]:
        """What begins or ends with a frame of ``time_us``, in the order of the rules.

        ``exceeded``: of each rule, whether its area is above its share. Where times go back, what a rule
        waits for is counted from the frame that went back.
        """
        told = zip(self._rules, self._states, exceeded, strict=True)
        events = (_observe(rule, state, above, time_us) for rule, state, above in told)
        return tuple(event for event in events if event is not None)


def _observe(rule: Rule, state: _State, above: bool, time_us: int) -> Event | None:
    if above == state.holds:
        state.since = None
        return None
    if state.since is None or time_us < state.since:
        state.since = time_us
    if time_us - state.since < rule.for_ms * 1000:
        return None
    event = Event(rule.name, EventKind.BEGAN if above else EventKind.ENDED, state.since)
    state.holds, state.since = above, None
    return event

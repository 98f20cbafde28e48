"""Shares of identities, counted in frames over an injected clock: time is what the steps are said to take."""

import pytest

from tilestream.messages import Frame, FrameStats, Outcome, Picture, SessionSpec
from tilestream.scheduling.scheduler import Limits, Scheduler

SECONDS = 0.02  # of the engine, a frame


class Engine:
    """Takes SECONDS for every frame. ``computed``: frames by owner; ``waited``: seconds, by owner."""

    def __init__(self, max_batch: int = 4) -> None:
        self.scheduler = Scheduler(Limits(max_batch=max_batch, service_level=0.1, min_budget=1.0))
        self.now = 100.0
        self.computed: dict[str, int] = {}
        self.waited: dict[str, list[float]] = {}
        self._specs: dict[str, SessionSpec] = {}
        self._next = 0

    def session(self, owner: str, weight: float = 1.0, own: float = 1.0) -> str:
        spec = SessionSpec(f"s{len(self._specs)}", "m", weight=own, owner=owner, owner_weight=weight)
        self._specs[spec.session_id] = spec
        self.scheduler.add(spec)
        return spec.session_id

    def send(self, session: str) -> None:
        self._next += 1
        picture = Picture(640, 480, (640, 480))
        assert self.scheduler.offer(Frame(session, self._next, picture, submitted=self.now))

    def step(self) -> list[str]:
        plan = self.scheduler.schedule(self.now)
        frames = [frame for frame, _ in plan.frames]
        for frame in frames:
            owner = self._specs[frame.session_id].owner
            self.computed[owner] = self.computed.get(owner, 0) + 1
            self.waited.setdefault(owner, []).append(self.now - frame.submitted)
        seconds = SECONDS * max(1, len(frames))
        self.now += seconds
        stats = FrameStats(True, 10, 10)
        outcomes = tuple(Outcome(frame.session_id, frame.frame_id, stats=stats) for frame in frames)
        self.scheduler.done(outcomes, seconds, self.now)
        return [frame.session_id for frame in frames]


def share_of_two(weight: float) -> float:
    """What an owner with 2 sessions gets beside one with 100, where all have a frame waiting all the time."""
    engine = Engine()
    sessions = [engine.session("few", weight) for _ in range(2)] + [
        engine.session("many") for _ in range(100)
    ]
    for session in sessions:
        engine.send(session)
    for _ in range(1500):
        for session in engine.step():
            engine.send(session)
    return engine.computed["few"] / sum(engine.computed.values())


@pytest.mark.parametrize(("weight", "share"), [(1.0, 1 / 2), (3.0, 3 / 4), (0.25, 1 / 5)])
def test_an_identity_with_100_cameras_cannot_take_the_share_of_one_with_2(weight, share):
    assert share_of_two(weight) == pytest.approx(share, abs=0.03)


def test_who_asks_for_less_than_its_share_hardly_waits_for_who_floods():
    engine = Engine()
    quiet = engine.session("quiet")
    flood = [engine.session("flood") for _ in range(100)]
    for session in flood:
        engine.send(session)
    due, sent = engine.now, 0
    for _ in range(1000):
        if engine.now >= due:  # 5 frames/s: a tenth of the engine's time
            engine.send(quiet)
            due, sent = due + 0.2, sent + 1
        for session in engine.step():
            if session != quiet:
                engine.send(session)
    waited = sorted(engine.waited["quiet"][5:])
    assert len(engine.waited["quiet"]) >= sent - 1
    assert waited[int(0.99 * len(waited))] <= 4 * SECONDS  # the step that ran when it came


def test_the_sessions_of_an_identity_share_by_their_own_weights():
    engine = Engine(max_batch=1)  # so that both cannot always run
    heavy, light = engine.session("one", own=3.0), engine.session("one")
    engine.session("other")
    counts = {heavy: 0, light: 0}
    for session in (heavy, light):
        engine.send(session)
        engine.send(session)
    for _ in range(1200):
        for session in engine.step():
            counts[session] += 1
            engine.send(session)
    assert counts[heavy] / counts[light] == pytest.approx(3.0, rel=0.15)


def test_a_pause_saves_up_no_more_than_a_moment():
    engine = Engine()
    one, other = engine.session("one"), engine.session("other")
    engine.send(one)
    for _ in range(500):  # the other is away
        engine.step()
        engine.send(one)
    for session in (other, other, one):
        engine.send(session)
    for _ in range(400):
        for session in engine.step():
            engine.send(session)
    assert engine.waited["other"]
    before = engine.computed["one"]
    for _ in range(200):
        for session in engine.step():
            engine.send(session)
    assert engine.computed["one"] - before >= 90  # it is not made to pay for the time alone

"""The real scheduler under load, on a virtual clock: budgets first, then frames, then sessions."""

import math

import numpy as np
import pytest

from bench.simulation import Simulation, VirtualCamera, VirtualEngine
from tilestream.scheduling.overload import Level
from tilestream.scheduling.scheduler import Limits
from tilestream.sessions.session import phase_of

SPREAD = VirtualEngine(whole=0.12, part=0.15, frame=0.015, spread=True, outlier_every=10**9)
LUMPY = VirtualEngine(whole=0.12, part=0.15, frame=0.015, outlier_every=10**9)
CAMERAS = 8


def dense_fps(engine):
    return 1.0 / (engine.fixed + 0.1728 * (engine.frame + engine.whole))


def play(load, engine=SPREAD, waits=False, seconds=60.0, limits=None, budget=1.0):
    fps = load * dense_fps(engine) / CAMERAS
    cameras = [VirtualCamera(fps, waits=waits, budget=budget) for _ in range(CAMERAS)]
    return fps * CAMERAS, Simulation(cameras, engine, limits).run(seconds)


def settled(record, begin=20.0, end=60.0):
    answers = record.between(begin, end)
    latencies = np.array([answer.latency for answer in answers])
    return answers, float(np.quantile(latencies, 0.99))


def turns(record):
    """How often the budget changed its direction."""
    moves = np.sign(np.diff([load.scale for _, load in record.loads]))
    moves = moves[moves != 0]
    return int((np.diff(moves) != 0).sum())


@pytest.mark.parametrize("engine", [SPREAD, LUMPY], ids=["spread", "lumpy"])
@pytest.mark.parametrize("waits", [False, True], ids=["drops", "waits"])
def test_half_of_the_capacity_is_served_in_full(engine, waits):
    offered, record = play(0.4, engine, waits)
    answers, _ = settled(record)
    assert len(answers) / 40 == pytest.approx(offered, rel=0.05)
    assert not record.drops
    assert np.mean([answer.budget for answer in answers]) > 0.9


@pytest.mark.parametrize("engine", [SPREAD, LUMPY], ids=["spread", "lumpy"])
@pytest.mark.parametrize("load", [0.9, 1.5, 2.0])
def test_budgets_are_lowered_before_any_frame_is_dropped(load, engine):
    offered, record = play(load, engine)
    answers, p99 = settled(record)
    assert len(answers) / 40 == pytest.approx(offered, rel=0.03)
    assert not [drop for drop in record.drops if drop[0] > 5.0]
    assert p99 <= 0.1
    assert all(load.level <= Level.REDUCED for _, load in record.loads)
    if load > 1:
        assert np.mean([answer.budget for answer in answers]) < 1.0 / load
    assert turns(record) <= 12


def test_frames_are_dropped_only_when_budgets_are_at_their_floor():
    limits = Limits(min_budget=0.3)
    offered, record = play(4.0, limits=limits)
    answers, _ = settled(record)
    assert {round(answer.budget, 3) for answer in answers} == {0.3}
    assert len(answers) / 40 > 2.0 * dense_fps(SPREAD), "more than twice what a fixed budget of 1 gives"
    assert record.drops and len(answers) / 40 < offered
    counts = np.bincount([answer.camera for answer in answers], minlength=CAMERAS)
    assert counts.sum() ** 2 / (CAMERAS * (counts**2).sum()) > 0.98


def test_fixed_budgets_are_left_alone():
    _, record = play(3.0, limits=Limits(min_budget=1.0))
    answers, _ = settled(record)
    assert {answer.budget for answer in answers} == {1.0}
    assert len(answers) / 40 == pytest.approx(dense_fps(SPREAD), rel=0.1)


@pytest.mark.parametrize("engine", [SPREAD, LUMPY], ids=["spread", "lumpy"])
def test_quality_comes_back_when_the_load_falls(engine):
    fps = 2.0 * dense_fps(engine) / 12
    cameras = [VirtualCamera(fps) for _ in range(2)]
    cameras += [VirtualCamera(fps, active=(0.0, 30.0)) for _ in range(10)]
    record = Simulation(cameras, engine).run(120.0)
    assert np.mean([answer.budget for answer in record.between(20, 30)]) < 0.6
    assert np.mean([answer.budget for answer in record.between(100, 120)]) > 0.95
    assert record.loads[-1][1].level is Level.NORMAL
    assert turns(record) <= 12


def test_new_sessions_are_refused_while_nothing_else_helps_and_let_in_afterwards():
    limits = Limits(min_budget=0.5)
    fps = 3.0 * dense_fps(SPREAD) / CAMERAS
    cameras = [VirtualCamera(fps, active=(0.0, 30.0), waits=True) for _ in range(CAMERAS)]
    cameras.append(VirtualCamera(5.0, active=(15.0, math.inf)))
    record = Simulation(cameras, SPREAD, limits).run(60.0)
    refused = [at for at, camera in record.refusals if camera == CAMERAS]
    assert refused and min(refused) == 15.0
    served = [answer.at for answer in record.answered if answer.camera == CAMERAS]
    assert served and min(served) < 45.0


def test_a_stream_as_fast_as_it_goes_keeps_its_budget():
    record = Simulation([VirtualCamera(math.inf, budget=0.5, waits=True)], SPREAD).run(30.0)
    assert {answer.budget for answer in record.answered} == {0.5}


def test_an_idle_night_is_calm():
    def night(now):
        return 0.0 if 20 < now < 4000 else 3.0

    cameras = [VirtualCamera(dense_fps(SPREAD) / CAMERAS, rate=night) for _ in range(CAMERAS)]
    simulation = Simulation(cameras, SPREAD)
    simulation.run(4000.0)
    assert simulation.scheduler.load(4000.0).scale == 1.0


def test_the_same_seed_gives_the_same_record():
    first, second = (play(1.5, seconds=10.0)[1].answered for _ in range(2))
    assert first == second


def test_whole_frames_of_cameras_that_begin_together_are_spread_by_their_names():
    engine = VirtualEngine(whole=0.27, frame=0.026, noise=0.0, outlier_every=10**9)
    pinned = Limits(min_budget=1.0, service_level=10.0, max_step_seconds=0.05)  # nothing is deferred

    def longest(phases):
        """The latest answer after all have begun, of cameras that compute every fifth frame."""
        cameras = [VirtualCamera(0.5, budget=0.2, phase=phase, waits=True) for phase in phases]
        answers = Simulation(cameras, engine, pinned).run(60.0).between(10.0, 60.0)
        assert np.mean([answer.share for answer in answers]) == pytest.approx(0.2, abs=0.03)
        return max(answer.latency for answer in answers)

    names = [phase_of(f"camera-{index}") for index in range(40)]
    assert longest(names) < 0.5 * longest([0.0] * 40)

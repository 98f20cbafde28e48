"""What media threads promise to the event loop."""

import asyncio
import threading

import pytest

from support.waiting import until
from tilestream.api.media_threads import MediaThreads


@pytest.fixture
async def threads():
    made = MediaThreads(2)
    yield made
    made.close()


async def test_every_job_is_told_once_with_what_came_of_it(threads):
    told = []

    def fail() -> int:
        raise ValueError("no")

    for number in range(100):
        threads.submit(fail if number == 7 else lambda number=number: number, told.append)
    await until(lambda: len(told) == 100)
    assert sorted(job.result for job in told if job.error is None) == [n for n in range(100) if n != 7]
    assert [str(job.error) for job in told if job.error is not None] == ["no"]


async def test_what_is_done_while_the_loop_is_busy_is_told_in_one_call(monkeypatch):
    threads = MediaThreads(1)
    loop, calls, told, over = asyncio.get_running_loop(), [], [], threading.Event()
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *a: (calls.append(a), call(*a)))
    for _ in range(20):
        threads.submit(int, told.append)
    threads.submit(over.set, told.append)
    over.wait()  # the loop stands still meanwhile
    assert len(calls) == 1 and not told
    await until(lambda: len(told) == 21)
    threads.close()


async def test_a_cancelled_job_is_told_but_not_done(threads):
    gate, done, told = threading.Event(), [], []
    for _ in range(2):
        threads.submit(gate.wait, told.append)
    job = threads.submit(lambda: done.append(1), told.append)
    job.cancel()
    job.cancel()
    gate.set()
    await until(lambda: len(told) == 3)
    assert job.cancelled and not done and job.result is None and job.error is None


async def test_a_receiver_that_fails_costs_no_other_its_result(threads):
    told = []

    def broken(job):
        raise RuntimeError

    for _ in range(5):
        threads.submit(int, broken)
        threads.submit(int, told.append)
    await until(lambda: len(told) == 5)


async def test_closing_gives_up_what_waits():
    threads = MediaThreads(1)
    gate, begun, told = threading.Event(), threading.Event(), []
    threads.submit(lambda: (begun.set(), gate.wait()), told.append)
    await until(begun.is_set)
    waiting = [threads.submit(int, told.append) for _ in range(3)]
    threads.close()
    threads.close()
    assert told == waiting and all(job.cancelled for job in waiting)
    gate.set()
    await until(lambda: len(told) == 4)

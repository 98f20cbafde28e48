"""Places of those who look, and what they wait for."""

import asyncio

import pytest

from support.clock import ManualClock
from tilestream.web.viewers import SILENT, TooManyViewers, Viewers


async def test_silent_viewers_leave_their_places():
    clock = ManualClock()
    viewers = Viewers(1, clock, 2.0)
    async with viewers.turn("", "one", "sessions", 1.0):
        with pytest.raises(TooManyViewers):
            async with viewers.turn("", "two", "sessions", 1.0):
                pass
        clock.advance(SILENT + 1)
        assert len(viewers) == 1, "its answer is under way"
    clock.advance(SILENT + 1)
    async with viewers.turn("", "two", "sessions", 1.0):
        assert len(viewers) == 1


async def test_a_viewer_that_asks_again_has_left_its_last_question_alone():
    viewers = Viewers(1, ManualClock(), 2.0)
    entered = asyncio.Event()

    async def ask(answer: asyncio.Event) -> None:
        async with viewers.turn("", "one", "picture", 0.0):
            entered.set()
            await answer.wait()

    first = asyncio.create_task(ask(asyncio.Event()))
    await entered.wait()
    answer = asyncio.Event()
    answer.set()
    await ask(answer)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_turns_of_another_kind_do_not_wait():
    clock = ManualClock()
    viewers = Viewers(1, clock, 2.0)
    async with viewers.turn("", "one", "picture", 5.0), viewers.turn("", "one", "sessions", 5.0):
        pass
    waiting = asyncio.create_task(viewers.turn("", "one", "picture", 5.0).__aenter__())
    await clock.elapse(5.0)
    await waiting

"""What is under a shield ends by itself, whoever leaves, and a context only after what is in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from services.sql.shield import Shield


class Diary:
    """A context and a call whose every step waits for leave, and what became of them."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.leave = {name: asyncio.Event() for name in ("enter", "call", "exit")}
        self.fails = ""

    def let(self, *names: str) -> None:
        for name in names:
            self.leave[name].set()

    async def step(self, name: str) -> str:
        self.entries.append(f"{name}?")
        try:
            await self.leave[name].wait()
            if self.fails == name:
                raise OSError(name)
        except BaseException as error:
            self.entries.append(type(error).__name__)
            raise
        self.entries.append(name)
        return name

    async def call(self) -> str:
        return await self.step("call")

    @asynccontextmanager
    async def context(self) -> AsyncIterator[str]:
        value = await self.step("enter")
        try:
            yield value
        except BaseException as error:
            self.entries.append(type(error).__name__)
            raise
        finally:
            await self.step("exit")


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def shield() -> Shield:
    return Shield()


async def settle() -> None:
    """Lets all go on until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def cancelled(work: Coroutine[Any, Any, Any], *, after: Callable[[], object]) -> None:
    task = asyncio.create_task(work)
    await settle()
    after()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def inside(diary: Diary, shield: Shield) -> Coroutine[Any, Any, str]:
    async def caller() -> str:
        async with shield.holding(diary.context()) as (value, calls):
            assert value == "enter"
            answer = await calls.around(diary.call)()
        diary.entries.append("done")
        return answer

    return caller()


async def test_a_call_gives_what_the_method_gives(diary: Diary, shield: Shield) -> None:
    diary.let("call")
    assert await shield.around(diary.call)() == "call"
    diary.fails = "call"
    with pytest.raises(OSError, match="call"):
        await shield.around(diary.call)()


@pytest.mark.parametrize("fails", ["", "call"])
async def test_a_call_ends_after_its_caller_left(diary: Diary, shield: Shield, fails: str) -> None:
    """What it raises then is nobody's: an exception never looked at would fail the test."""
    diary.fails = fails
    await cancelled(shield.around(diary.call)(), after=lambda: None)
    assert diary.entries == ["call?"]
    finishing = asyncio.create_task(shield.finish())
    await settle()
    assert not finishing.done()
    diary.let("call")
    await finishing
    assert diary.entries == ["call?", "OSError" if fails else "call"]


async def test_a_context_is_left_as_ever(diary: Diary, shield: Shield) -> None:
    diary.let("enter", "call", "exit")
    assert await inside(diary, shield) == "call"
    assert diary.entries == ["enter?", "enter", "call?", "call", "exit?", "exit", "done"]


@pytest.mark.parametrize("step", ["enter", "call", "exit"])
async def test_errors_come_through(diary: Diary, shield: Shield, step: str) -> None:
    diary.let("enter", "call", "exit")
    diary.fails = step
    with pytest.raises(OSError, match=step):
        await inside(diary, shield)
    assert "done" not in diary.entries
    assert ("exit?" in diary.entries) == (step != "enter")


async def test_a_context_may_swallow_an_error(shield: Shield) -> None:
    def swallowing() -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def context() -> AsyncIterator[None]:
            with contextlib.suppress(KeyError):
                yield

        return context()

    async with shield.holding(swallowing()):
        raise KeyError
    with pytest.raises(ValueError, match="other"):
        async with shield.holding(swallowing()):
            raise ValueError("other")


LEFT = {
    # What was let go on when the caller is cancelled; what is written by then; what is in the end.
    "entering": ((), ["enter?"], ["enter", "CancelledError", "exit?", "exit"]),
    "within a call": (
        ("enter",),
        ["enter?", "enter", "call?"],
        ["call", "CancelledError", "exit?", "exit"],
    ),
    "leaving": (("enter", "call"), ["enter?", "enter", "call?", "call", "exit?"], ["exit"]),
}


@pytest.mark.parametrize("when", LEFT)
async def test_a_context_ends_in_order_after_its_caller_left(
    diary: Diary, shield: Shield, when: str
) -> None:
    let, written, rest = LEFT[when]
    await cancelled(inside(diary, shield), after=lambda: diary.let(*let))
    await settle()
    assert diary.entries == written
    diary.let("enter", "call", "exit")
    await shield.finish()
    assert diary.entries == [*written, *rest]


async def test_a_context_that_could_not_be_entered_is_not_left(
    diary: Diary, shield: Shield
) -> None:
    diary.fails = "enter"
    await cancelled(inside(diary, shield), after=lambda: None)
    diary.let("enter", "call", "exit")
    await shield.finish()
    assert diary.entries == ["enter?", "OSError"]


async def test_a_caller_that_is_cancelled_between_calls(diary: Diary, shield: Shield) -> None:
    async def caller() -> None:
        async with shield.holding(diary.context()):
            await asyncio.Event().wait()

    diary.let("enter")
    await cancelled(caller(), after=lambda: None)
    diary.let("exit")
    await shield.finish()
    assert diary.entries == ["enter?", "enter", "CancelledError", "exit?", "exit"]

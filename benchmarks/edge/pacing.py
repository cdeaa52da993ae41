"""What the stand-in engine is asked to do, and its clock."""

import asyncio
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from penstock.inference.v1 import inference_service_pb2 as inference_pb2

TOKENS_PER_SECOND = 50
_LATE_STEPS = 2
_SENTENCE = (
    "water runs down from the reservoir through one long steel pipe and turns the wheel below "
    "with all the pressure that height can give it so every litre counts"
)
WORDS = tuple(f" {word}" for word in _SENTENCE.split())
"""Tokens, one after the other and over again."""


class Pace(StrEnum):
    """How tokens come."""

    PACED = "paced"
    """Fifty a second, in steps that all streams share."""
    FLOOD = "flood"
    """As fast as they are taken."""
    SILENT = "silent"
    """Never: a prefill without end."""


class Task(NamedTuple):
    """What the last message of a request asks for, as `paced tag`."""

    pace: Pace
    tag: str
    token_count: int


def task_of(request: inference_pb2.ChatRequest) -> Task:
    """Reads the task of a request."""
    pace, _, tag = request.messages[-1].parts[-1].text.partition(" ")
    return Task(Pace(pace), tag, request.sampling.max_tokens)


class Pacer:
    """Calls everyone who listens at each step, all at the same moment."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []
        self._waiters: list[asyncio.Future[None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` at every step."""
        self._listeners.append(listener)

    def leave(self, listener: Callable[[], None]) -> None:
        """Calls it no more."""
        self._listeners.remove(listener)

    async def step(self) -> None:
        """Waits for the next step."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def run(self) -> None:
        """Steps until cancelled. A step that can't be made in time is left out."""
        loop = asyncio.get_running_loop()
        period = 1 / TOKENS_PER_SECOND
        due = loop.time()
        while True:
            due += period
            if loop.time() > due + _LATE_STEPS * period:
                due = loop.time()
            await asyncio.sleep(due - loop.time())
            for listener in self._listeners:
                listener()
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


class Ledger:
    """What runs, and when what was cancelled was seen to be, on the clock all processes share."""

    def __init__(self) -> None:
        self.running = 0
        self.cancels: dict[str, float] = {}

    def begin(self) -> None:
        """Counts a request in."""
        self.running += 1

    def end(self, task: Task, *, cancelled: bool) -> None:
        """Counts it out."""
        self.running -= 1
        if cancelled and task.tag:
            self.cancels[task.tag] = time.monotonic()

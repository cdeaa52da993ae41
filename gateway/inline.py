"""Runs an awaitable as far as it goes without waiting, which needs no task and no timer.

ASGI's `send` and `receive` seldom wait. When one does, the task whose matter it is goes on with it.
"""

import types
from collections.abc import Awaitable, Generator
from typing import Any

Steps = Generator[Any, Any, Any]
"""What an awaitable does, step by step."""


def steps_of(awaitable: Awaitable[Any]) -> Steps:
    """Returns the steps of an awaitable; none is made yet."""
    steps: Steps = awaitable.__await__()
    return steps


@types.coroutine
def resumed(steps: Steps, waiting: object) -> Generator[Any, Any, Any]:
    """Runs on, in the current task, what was begun outside of it and waits for `waiting`."""
    try:
        while True:
            try:
                value = yield waiting
            except BaseException as error:
                waiting = steps.throw(error)
            else:
                waiting = steps.send(value)
    except StopIteration as stop:
        return stop.value

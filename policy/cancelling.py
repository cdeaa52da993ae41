"""Cancellations that get lost: a task is cancelled in the moment in which its gRPC call ends, and
hears of the end alone.

gRPC gives the cancellation to a task of its own, which takes it for the call's. A loop that goes on
after failed calls then runs for ever, and who waits for its end waits as long.
"""

import asyncio


def heed_cancellation() -> None:
    """Raises `CancelledError` if the running task was cancelled, whoever has heard of it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

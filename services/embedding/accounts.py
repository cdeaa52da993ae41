"""The account of a call: its tokens are reserved once they are known, and what was computed of them
is told when it ends, before its caller is told of the end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import NamedTuple

from services.embedding.batching import Progress
from services.embedding.requests import Caller
from services.errors import QueueFull
from services.metering import FREE, Meter, Used, outcome_of

_SLACK_S = 0.05
"""The transport cancels at the deadline too, by a clock of its own."""


class Counted(NamedTuple):
    """What is known of a call once its inputs are ready."""

    model: str
    user: str
    tokens: int


@contextlib.asynccontextmanager
async def accounted(
    meter: Meter, caller: Caller, work: Counted, progress: Progress
) -> AsyncGenerator[None]:
    """Admits a call, and settles when the block is left, by how far the call came.

    Raises `RateLimited`.
    """
    metered = FREE
    if caller.work is not None:
        metered = await meter.admit(
            replace(caller.work, model=work.model, prompt_tokens=work.tokens, user=work.user)
        )

    def settle(error: BaseException | None) -> None:
        metered.settle(
            Used(
                outcome_of(error, is_late=_is_late(caller.deadline)),
                prompt_tokens=progress.tokens,
                queued_s=progress.queue_s,
                ran_s=progress.compute_s,
            )
        )

    try:
        yield
    except QueueFull:
        metered.withdraw()
        raise
    except BaseException as error:
        settle(error)
        raise
    settle(None)


def _is_late(deadline: float | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() >= deadline - _SLACK_S

"""The account of a job: what it used is told when it ends, before its caller is told of the end."""

import asyncio
import contextlib
from collections.abc import Callable, Generator
from dataclasses import replace

from services.image.events import Finish, FinishReason
from services.image.jobs import Job
from services.image.orders import Order
from services.image.requests import Caller
from services.metering import FREE, Meter, Metered, Outcome, Used, outcome_of

Settle = Callable[[Finish], None]
_SLACK_S = 0.05
"""The transport cancels at the deadline too, by a clock of its own."""


async def admitted(meter: Meter, caller: Caller, model: str, order: Order) -> Metered:
    """Admits a job, whose account is kept where its caller says of what. Raises `RateLimited`."""
    if caller.work is None:
        return FREE
    return await meter.admit(replace(caller.work, model=model, prompt_tokens=order.prompt_tokens))


@contextlib.contextmanager
def accounting(metered: Metered, job: Job, deadline: float | None) -> Generator[Settle]:
    """Tells what a job used: when it finishes, as the caller of what this gives says, else when the
    block is left. A job that nothing was drawn of used nothing."""
    settled = False

    def settle(outcome: Outcome) -> None:
        nonlocal settled
        if settled:
            return
        settled = True
        queued_s, ran_s = job.times
        metered.settle(
            Used(
                outcome,
                prompt_tokens=job.order.prompt_tokens if job.start_time is not None else 0,
                images=job.image_count,
                queued_s=queued_s,
                ran_s=ran_s,
            )
        )

    def finish(event: Finish) -> None:
        interrupted = event.reason is FinishReason.INTERRUPTED
        settle(Outcome.CANCELLED if interrupted else Outcome.OK)

    try:
        yield finish
    except BaseException as error:
        settle(outcome_of(error, is_late=_is_late(deadline)))
        raise
    settle(Outcome.FAILED)


def _is_late(deadline: float | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() >= deadline - _SLACK_S

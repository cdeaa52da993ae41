"""On whose behalf a call runs: from the chassis to the domain."""

import asyncio
from typing import Any

from google.protobuf.message import Message

from services.inference.requests import Caller
from services.metering import Work
from services.rpc.access import Principal, Role, principal, request_id
from services.rpc.metering import work_of


def caller_of(
    principal: Principal, request_id: str, remaining_s: float | None, *, work: Work | None = None
) -> Caller:
    """Returns the caller, with a deadline `remaining_s` from now. An account is kept of `work`."""
    now = asyncio.get_running_loop().time()
    return Caller(
        principal=principal.id,
        may_hurry=principal.holds(Role.ADMIN),
        deadline=None if remaining_s is None else now + remaining_s,
        request_id=request_id,
        work=work,
    )


async def calling(request: Message, context: Any, timeout_s: float | None = None) -> Caller:
    """Returns the caller of the call being served, who waits no longer than `timeout_s`."""
    remaining: float | None = context.time_remaining()
    if timeout_s is not None:
        remaining = timeout_s if remaining is None else min(remaining, timeout_s)
    work = await work_of(request)
    return caller_of(principal(), request_id(), _answerable(remaining), work=work)


def _answerable(remaining_s: float | None) -> float | None:
    """The time that generating may take: the rest is for telling where it went."""
    return None if remaining_s is None else remaining_s - min(0.05, remaining_s / 10)

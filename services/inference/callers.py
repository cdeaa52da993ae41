"""On whose behalf a call runs: from the chassis to the domain."""

import asyncio

from services.inference.requests import Caller
from services.metering import Work
from services.rpc.access import Principal, Role


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

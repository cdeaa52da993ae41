"""On whose behalf a call runs: from the chassis to the domain."""

import asyncio

from services.embedding.requests import Caller
from services.rpc.access import Principal, Role


def caller_of(principal: Principal, request_id: str, remaining_s: float | None) -> Caller:
    """Returns the caller, with a deadline `remaining_s` from now."""
    now = asyncio.get_running_loop().time()
    return Caller(
        principal=principal.id,
        may_hurry=principal.holds(Role.ADMIN),
        deadline=None if remaining_s is None else now + remaining_s,
        request_id=request_id,
    )

"""On whose behalf a call runs: from the chassis to the domain."""

import asyncio

from services.image.requests import Caller
from services.metering import Work
from services.rpc.access import Principal, Role


def caller_of(
    principal: Principal, remaining_s: float | None, *, work: Work | None = None
) -> Caller:
    """Returns the caller, with a deadline `remaining_s` from now. An account is kept of `work`."""
    now = asyncio.get_running_loop().time()
    return Caller(
        principal=principal.id,
        is_admin=principal.holds(Role.ADMIN),
        deadline=None if remaining_s is None else now + remaining_s,
        work=work,
    )

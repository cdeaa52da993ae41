"""On whose behalf a call runs: from the chassis to the domain."""

from typing import Any

from policy.standing import standing_of
from services.rpc.access import Role, principal
from services.training.records import Caller

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


def caller() -> Caller:
    """Returns who calls."""
    who = principal()
    return Caller(who.id, is_admin=who.holds(Role.ADMIN), standing=standing_of(who))

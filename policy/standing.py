"""What somebody may do, kept for work that outlives their credential: batches run for a day, signed
tokens live for minutes.

Who has a key needs none of this: the key is looked up again, and may have been revoked meanwhile.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from policy.oidc import PREFIX as SIGNED_IN
from policy.principals import Limits, Principal, Role
from policy.workloads import SCHEME as WORKLOAD

_PASSING = (SIGNED_IN, WORKLOAD)
"""How the IDs begin of those who can't be looked up."""


def standing_of(principal: Principal) -> str:
    """Returns what is kept of somebody who can't be looked up later; empty for all others.

    It gives the role `user`, whatever greater ones the caller has: that is all that batches need.
    """
    if not principal.id.startswith(_PASSING) or not principal.holds(Role.USER):
        return ""
    limits = {name: getattr(principal.limits, name) for name in Limits.__slots__}
    return json.dumps(
        {
            "id": principal.id,
            "name": principal.name,
            "tenants": principal.tenants,
            "allowed_models": principal.allowed_models,
            "limits": {name: limit for name, limit in limits.items() if limit is not None},
        },
        separators=(",", ":"),
    )


def principal_of(standing: object) -> Principal | None:
    """Returns whom `standing_of` told of, read from its JSON; None for anything else."""
    if not isinstance(standing, Mapping):
        return None
    told = cast("Mapping[str, Any]", standing)
    try:
        id, name = told["id"], told["name"]
        if not isinstance(id, str) or not isinstance(name, str) or not id.startswith(_PASSING):
            return None
        return Principal(
            id,
            name,
            frozenset({Role.USER}),
            tenants=tuple(map(str, told["tenants"])),
            limits=Limits(**{key: int(limit) for key, limit in told["limits"].items()}),
            allowed_models=tuple(map(str, told["allowed_models"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None

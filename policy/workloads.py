"""Workloads: whom a client certificate stands for, by the SPIFFE ID in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from policy.principals import Limits, Principal, Role

SCHEME = "spiffe://"
"""How IDs of workloads begin."""


@dataclass(frozen=True)
class Workload:
    """What certificates give whose ID is like a pattern."""

    pattern: str
    """A SPIFFE ID; a trailing `*` stands for any end."""
    roles: frozenset[Role]
    tenants: tuple[str, ...] = ()
    """Empty is `default`."""
    allowed_models: tuple[str, ...] = ()
    """Empty is every model."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raises `ValueError` for what is no pattern, and for a role that no certificate gives."""
        _check(self.pattern)
        if not self.roles:
            raise ValueError(f"{self.pattern!r} needs a role")
        if Role.SERVICE in self.roles:
            raise ValueError("The role 'service' is for PENSTOCK_SERVICE_TOKEN alone.")

    def covers(self, spiffe_id: str) -> bool:
        """Tells whether an ID is like the pattern."""
        return _covers(self.pattern, spiffe_id)


class Workloads:
    """All that are known."""

    def __init__(self, workloads: Iterable[Workload] = ()) -> None:
        # The longest pattern says most; a whole ID says more than one that ends in `*`.
        self._workloads = sorted(
            workloads, key=lambda w: (not w.pattern.endswith("*"), len(w.pattern)), reverse=True
        )

    def __bool__(self) -> bool:
        return bool(self._workloads)

    def find(self, spiffe_id: str) -> Principal | None:
        """Returns whom a certificate with this ID stands for; None where nobody is meant."""
        for workload in self._workloads:
            if workload.covers(spiffe_id):
                return Principal(
                    spiffe_id,
                    spiffe_id,
                    workload.roles,
                    tenants=workload.tenants,
                    limits=workload.limits,
                    allowed_models=workload.allowed_models,
                )
        return None


class Peers:
    """Who may connect at all: by the IDs in their certificates."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Takes IDs; a trailing `*` stands for any end. Raises `ValueError`."""
        self._patterns = tuple(patterns)
        for pattern in self._patterns:
            _check(pattern)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def admit(self, spiffe_id: str) -> bool:
        """Tells whether a certificate with this ID may be that of a caller."""
        return any(_covers(pattern, spiffe_id) for pattern in self._patterns)


def _check(pattern: str) -> None:
    domain = pattern.removeprefix(SCHEME).partition("/")[0]
    if not pattern.startswith(SCHEME) or not domain or "*" in domain:
        raise ValueError(
            f"{pattern!r} is not like '{SCHEME}example.org/ns/apps/*': the domain has to be whole"
        )
    if "*" in pattern[:-1]:
        raise ValueError(f"{pattern!r}: '*' may only be its last character")


def _covers(pattern: str, spiffe_id: str) -> bool:
    if pattern.endswith("*"):
        return spiffe_id.startswith(pattern[:-1])
    return spiffe_id == pattern

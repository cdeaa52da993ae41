"""Workloads: whom a client certificate stands for, by the SPIFFE ID in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from policy.principals import Limits, Principal, Role

_SCHEME = "spiffe://"


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
        domain = self.pattern.removeprefix(_SCHEME).partition("/")[0]
        if not self.pattern.startswith(_SCHEME) or not domain or "*" in domain:
            raise ValueError(
                f"{self.pattern!r} is not like '{_SCHEME}example.org/ns/apps/*': the domain has to "
                "be whole"
            )
        if "*" in self.pattern[:-1]:
            raise ValueError(f"{self.pattern!r}: '*' may only be its last character")
        if not self.roles:
            raise ValueError(f"{self.pattern!r} needs a role")
        if Role.SERVICE in self.roles:
            raise ValueError("The role 'service' is for PENSTOCK_SERVICE_TOKEN alone.")

    def covers(self, spiffe_id: str) -> bool:
        """Tells whether an ID is like the pattern."""
        if self.pattern.endswith("*"):
            return spiffe_id.startswith(self.pattern[:-1])
        return spiffe_id == self.pattern


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

"""Who calls, and what they may do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from services.errors import PermissionDenied

DEFAULT_TENANT = "default"
"""The tenant of those who have no other."""

EVERY_TENANT = "*"
"""Stands for all tenants."""

_LONGEST_TENANT = 128


def is_tenant(name: str) -> bool:
    """Tells whether a text may name a tenant: at most 128 printable characters, no slash."""
    return 0 < len(name) <= _LONGEST_TENANT and name.isprintable() and "/" not in name


class Role(StrEnum):
    """What a token may do.

    `user` < `model_manager`, `trainer` < `admin` < `superadmin`: each holds what stands left of it.
    `service` is for calls between services; it holds `user`, and no human role holds it.
    """

    USER = "user"
    MODEL_MANAGER = "model_manager"
    TRAINER = "trainer"
    ADMIN = "admin"
    SUPERADMIN = "superadmin"
    SERVICE = "service"


_HOLDS: dict[Role, frozenset[Role]] = {
    Role.USER: frozenset({Role.USER}),
    Role.MODEL_MANAGER: frozenset({Role.MODEL_MANAGER, Role.USER}),
    Role.TRAINER: frozenset({Role.TRAINER, Role.USER}),
    Role.ADMIN: frozenset({Role.ADMIN, Role.MODEL_MANAGER, Role.TRAINER, Role.USER}),
    Role.SUPERADMIN: frozenset(set(Role) - {Role.SERVICE}),
    Role.SERVICE: frozenset({Role.SERVICE, Role.USER}),
}


@dataclass(frozen=True)
class Principal:
    """Who calls."""

    id: str
    """ID of the token; safe to log."""
    name: str
    """Name for people."""
    roles: frozenset[Role]
    """Roles as given."""
    tenants: tuple[str, ...] = ()
    """Tenants whose collections and prompts it reaches; `*` is every one. Empty is `default`."""
    held: frozenset[Role] = field(init=False, repr=False, compare=False)
    """Roles with all that they hold."""

    def __post_init__(self) -> None:
        held = frozenset[Role]().union(*(_HOLDS[role] for role in self.roles))
        object.__setattr__(self, "held", held)
        if not self.tenants:
            object.__setattr__(self, "tenants", (DEFAULT_TENANT,))

    def holds(self, role: Role) -> bool:
        """Tells whether the principal has the role, itself or through a greater one."""
        return role in self.held

    def may_enter(self, tenant: str) -> bool:
        """Tells whether what belongs to a tenant is the principal's to see."""
        return tenant in self.tenants or EVERY_TENANT in self.tenants

    def require(self, roles: Iterable[Role]) -> None:
        """Raises `PermissionDenied` unless the principal holds one of the roles."""
        if self.held.isdisjoint(roles):
            names = " or ".join(f"'{role.value}'" for role in sorted(roles))
            raise PermissionDenied(
                f"This needs the role {names}. Use a key that has it.",
                metadata={"required_role": ",".join(role.value for role in sorted(roles))},
            )


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({Role.USER}))
"""Who calls without a credential where none is required."""

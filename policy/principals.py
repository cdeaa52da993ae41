"""Principals: who calls, with which roles, limits and models."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_TENANT = "default"
"""The tenant of those who have no other."""

EVERY_TENANT = "*"
"""Stands for all tenants."""

_LONGEST_TENANT = 128


def is_tenant(name: str) -> bool:
    """Tells whether a text may name a tenant: at most 128 printable characters, no slash."""
    return 0 < len(name) <= _LONGEST_TENANT and name.isprintable() and "/" not in name


class Role(StrEnum):
    """What a principal may do.

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


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a principal may use. None takes what the configuration says; 0 is no limit."""

    requests_per_minute: int | None = None
    """Requests in any 60 seconds."""
    tokens_per_minute: int | None = None
    """Prompt and completion tokens a minute."""
    concurrent_requests: int | None = None
    """Requests that run or wait at once."""
    tokens_per_day: int | None = None
    """Tokens a day of UTC."""
    tokens_per_month: int | None = None
    """Tokens a calendar month of UTC."""

    def over(self, defaults: "Limits") -> "Limits":
        """Returns these limits, with a default wherever there is none."""
        return Limits(
            *(
                default if own is None else own
                for own, default in (
                    (getattr(self, name), getattr(defaults, name)) for name in self.__slots__
                )
            )
        )


@dataclass(frozen=True)
class Principal:
    """Who calls."""

    id: str
    """ID of the key, token, user or workload; safe to log."""
    name: str
    """Name for people."""
    roles: frozenset[Role]
    """Roles as given."""
    tenants: tuple[str, ...] = (DEFAULT_TENANT,)
    """Tenants whose collections and prompts it reaches; `*` is every one."""
    expires_at: float | None = None
    """Unix time after which it is nobody. None is never."""
    gel_user: str = ""
    """The one name that Gel's clients may give with it. Empty: any."""
    limits: Limits = Limits()
    """How much it may use."""
    allowed_models: tuple[str, ...] = ()
    """IDs of models that it may use; a trailing `*` stands for any end. Empty is every model."""
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

    def holds_any(self, roles: Iterable[Role]) -> bool:
        """Tells whether the principal has one of the roles."""
        return not self.held.isdisjoint(roles)

    def may_enter(self, tenant: str) -> bool:
        """Tells whether what belongs to a tenant is the principal's to see."""
        return tenant in self.tenants or EVERY_TENANT in self.tenants

    def may_use(self, *names: str) -> bool:
        """Tells whether a model is the principal's to use, by its ID and aliases."""
        if not self.allowed_models:
            return True
        return any(
            name == allowed or (allowed.endswith("*") and name.startswith(allowed[:-1]))
            for allowed in self.allowed_models
            for name in names
        )


ANONYMOUS = Principal("anonymous", "anonymous", frozenset({Role.USER}))
"""Who calls without a credential where none is required."""

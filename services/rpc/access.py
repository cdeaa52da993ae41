"""Declares beside each method who may call it, and tells the method who does.

    class Models(ModelServiceServicer):
        @requires(Role.USER)
        async def GetModel(self, request, context): ...

A method without a declaration can't be served: the server refuses to start.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from policy.principals import ANONYMOUS, Principal, Role
from services.errors import PermissionDenied
from services.rpc.call import dialect, draining, principal, request_id

__all__ = [
    "ANONYMOUS",
    "Access",
    "Principal",
    "Role",
    "access_of",
    "dialect",
    "draining",
    "endless",
    "open_method",
    "principal",
    "request_id",
    "require",
    "requires",
    "validates_itself",
]

_ATTRIBUTE = "__penstock_access__"
_ENDLESS = "__penstock_endless__"
_VALIDATES = "__penstock_validates__"

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class Access:
    """Who may call a method."""

    roles: frozenset[Role]
    """Any one of them is enough. Empty: anybody, without credentials."""
    endless: bool = False
    """The method streams until the caller leaves; a drain ends it at once with UNAVAILABLE."""
    validates_itself: bool = False
    """The method checks what streams in by itself."""


def requires(*roles: Role) -> Callable[[Method], Method]:
    """Lets principals call the method that hold any of the roles."""
    if not roles:
        raise TypeError("Name a role, or say @open_method.")

    def declare(method: Method) -> Method:
        setattr(method, _ATTRIBUTE, frozenset(roles))
        return method

    return declare


def require(who: Principal, *roles: Role) -> None:
    """Raises `PermissionDenied` unless somebody holds one of the roles."""
    if not who.holds_any(roles):
        names = " or ".join(f"'{role.value}'" for role in sorted(roles))
        raise PermissionDenied(
            f"This needs the role {names}. Use a key that has it.",
            metadata={"required_role": ",".join(role.value for role in sorted(roles))},
        )


def open_method(method: Method) -> Method:
    """Lets anybody call the method, without credentials."""
    setattr(method, _ATTRIBUTE, frozenset[Role]())
    return method


def endless(method: Method) -> Method:
    """Marks a stream without an end of its own, such as a watch: a drain ends it with
    UNAVAILABLE."""
    setattr(method, _ENDLESS, True)
    return method


def validates_itself(method: Method) -> Method:
    """Marks a method that checks each message that streams in by itself, with `validate`, because
    a wrong one doesn't end its stream."""
    setattr(method, _VALIDATES, True)
    return method


def access_of(method: Callable[..., Any]) -> Access | None:
    """Returns what was declared for a method, or None."""
    roles: frozenset[Role] | None = getattr(method, _ATTRIBUTE, None)
    if roles is None:
        return None
    return Access(
        roles,
        endless=bool(getattr(method, _ENDLESS, False)),
        validates_itself=bool(getattr(method, _VALIDATES, False)),
    )

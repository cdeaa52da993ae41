"""Who may call what, by role."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.context import context_of
from gateway.errors import Problem, ProblemError
from gateway.guard import Endpoint

ADMINS = ("admin",)
MODEL_MANAGERS = ("admin", "model_manager")
TRAINERS = ("admin", "trainer")

_ABOVE_ALL = "superadmin"


def only_for(roles: Collection[str], endpoint: ASGIApp) -> ASGIApp:
    """Lets callers through who have one of the roles."""
    allowed = frozenset((*roles, _ABOVE_ALL))

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        if allowed.isdisjoint(context_of(scope).principal.roles):
            names = " or ".join(f"'{role}'" for role in sorted(roles))
            message = f"This needs the role {names}. Use a key that has it."
            raise ProblemError(Problem("PERMISSION_DENIED", message))
        await endpoint(scope, receive, send)

    return Endpoint(checked)

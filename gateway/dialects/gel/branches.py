"""Branches are tenants: which tenant a caller means by a branch."""

from penstock.retrieval.v1 import retrieval_service_pb2

from gateway.clients import Clients, ask
from gateway.context import RequestContext
from gateway.errors import Problem, ProblemError
from policy.principals import DEFAULT_TENANT, EVERY_TENANT
from policy.token_store import TokenStore

_FIRST_BRANCHES = frozenset({"main", "edgedb"})
"""What Gel names the branch that every instance starts with, now and formerly."""

_UNNAMED = "__default__"
"""What Gel's clients send when they were told no branch."""

_LONGEST = 128


class Branches:
    """Finds the tenant of a branch."""

    def __init__(self, tokens: TokenStore, clients: Clients) -> None:
        self._tokens = tokens
        self._clients = clients

    async def tenant_of(self, branch: str, context: RequestContext) -> str:
        """Returns the tenant that the caller means.

        Raises:
            ProblemError: there is no such branch, or the caller may not enter it.
        """
        principal = context.principal
        if branch == EVERY_TENANT or not _is_tenant(branch):
            raise _unknown(branch)
        if branch in principal.tenants:
            return branch
        tenant = branch
        if branch in _FIRST_BRANCHES:
            tenant = DEFAULT_TENANT
        elif branch == _UNNAMED:
            everywhere = EVERY_TENANT in principal.tenants
            tenant = DEFAULT_TENANT if everywhere else principal.tenants[0]
        known = tenant == DEFAULT_TENANT or self._tokens.names_tenant(tenant)
        if not principal.may_enter(tenant):
            raise _denied(branch) if known else _unknown(branch)
        if not known and not await self._has_collections(tenant, context):
            raise _unknown(branch)
        return tenant

    async def _has_collections(self, tenant: str, context: RequestContext) -> bool:
        """Only those who may enter every tenant get here with one that no token names."""
        request = retrieval_service_pb2.ListCollectionsRequest(
            parent=f"tenants/{tenant}", page_size=1
        )
        try:
            page = await ask(self._clients.retrieval.ListCollections, request, context)
        except ProblemError as error:
            if error.problem.reason in ("NOT_FOUND", "INVALID_ARGUMENT"):
                return False
            raise
        return len(page.collections) > 0


def _is_tenant(name: str) -> bool:
    return 0 < len(name) <= _LONGEST and name.isprintable() and "/" not in name


def _unknown(branch: str) -> ProblemError:
    return ProblemError(Problem("NOT_FOUND", f"There is no branch {branch[:_LONGEST]!r}."))


def _denied(branch: str) -> ProblemError:
    message = f"Authentication failed: this key has no access to the branch {branch!r}."
    return ProblemError(Problem("INVALID_CREDENTIALS", message))

"""Who calls, and what of it is theirs: from the chassis to the domain."""

import asyncio
from typing import Any

from services.errors import InvalidArgument, NotFound, PermissionDenied
from services.retrieval.names import (
    CollectionRef,
    DocumentRef,
    PromptRef,
    parse_collection,
    parse_document,
    parse_prompt,
    parse_tenant,
)
from services.retrieval.peers import Caller, Priority
from services.rpc.access import Role, principal

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""

_CREDENTIALS = ("authorization", "x-api-key")


def tenant_of(name: str, field: str) -> str:
    """Reads `tenants/{tenant}`. Raises `NotFound` for one that is not the caller's."""
    return _entered(parse_tenant(name, field), field)


def collection_of(name: str, field: str) -> CollectionRef:
    """Reads the name of a collection. Raises `NotFound` for one of another tenant."""
    ref = parse_collection(name, field)
    _entered(ref.tenant, field)
    return ref


def document_of(name: str, field: str) -> DocumentRef:
    """Reads the name of a document. Raises `NotFound` for one of another tenant."""
    ref = parse_document(name, field)
    _entered(ref.collection.tenant, field)
    return ref


def prompt_of(name: str, field: str) -> PromptRef:
    """Reads the name of a prompt. Raises `NotFound` for one of another tenant."""
    ref = parse_prompt(name, field)
    _entered(ref.tenant, field)
    return ref


def _entered(tenant: str, field: str) -> str:
    """Returns the tenant if it is the caller's: others do not exist for them."""
    if not principal().may_enter(tenant):
        raise NotFound(f"There is no tenant {tenant!r}.", field=field)
    return tenant


def check_same(one: object, other: object, field: str) -> None:
    """Raises `InvalidArgument` where what a field names is not below the parent."""
    if one != other:
        raise InvalidArgument(f"'{field}': must be below 'parent'.", field=field)


def check_priority(priority: Priority, field: str) -> None:
    """Refuses HIGH to callers who may not overtake others."""
    if priority is Priority.HIGH and not principal().holds(Role.ADMIN):
        raise PermissionDenied(
            "Priority HIGH needs the role 'admin'. Leave it out, or use a key that has it.",
            field=field,
        )


def caller_of(context: Context) -> Caller:
    """Returns on whose behalf other services are called."""
    # There may be no deadline.
    remaining: float | None = context.time_remaining()
    metadata = dict(context.invocation_metadata())
    return Caller(
        id=principal().id,
        credential=tuple((key, metadata[key]) for key in _CREDENTIALS if key in metadata),
        deadline=None if remaining is None else asyncio.get_running_loop().time() + remaining,
    )

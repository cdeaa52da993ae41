"""API keys: made, changed and revoked by those who hold what the keys give."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from policy.key_secrets import digest, make_id, make_token
from policy.principals import DEFAULT_TENANT, Principal, is_tenant
from policy.scram import is_gel_user, new_verifier
from services import page_tokens
from services.errors import (
    Conflict,
    InvalidArgument,
    MissingField,
    NotFound,
    PermissionDenied,
)
from services.model.catalog import utc_now
from services.model.key_records import Key
from services.model.key_store import KeyStore
from services.model.names import check_text
from services.model.paging import page_size as size_of
from services.page_tokens import Place

_LIMITS = "limits."
_QUERY = ("keys",)


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Some keys, and the token of the page after them."""

    items: list[Key]
    next_page_token: str


class Keys:
    """The keys of the database."""

    def __init__(
        self,
        store: KeyStore,
        *,
        announce: Callable[[], Awaitable[None]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Takes where keys are kept, and what to await after each change."""
        self._store = store
        self._announce = announce
        self._clock = clock

    async def create(
        self, values: Mapping[str, Any], gel_user: str, caller: Principal
    ) -> tuple[Key, str]:
        """Makes a key of these fields, and returns it with its secret, which nothing keeps."""
        secret = make_token()
        plain = Key(make_id(), digest(secret), "", (), self._clock(), gel_user=gel_user)
        if gel_user and not is_gel_user(gel_user):
            raise InvalidArgument(
                "'key.gel_user': use at most 64 letters, digits and '_.@+-'.", field="key.gel_user"
            )
        key = _changed(plain, values)
        self._check(key, values)
        _require_all_of(key, caller)
        async with self._store.writing() as tx:
            if gel_user:
                like = await tx.verifier_of(gel_user)
                verifier = await asyncio.to_thread(new_verifier, secret, like)
                key = replace(key, scram_verifier=verifier)
            await tx.put(key)
        await self._announce()
        return key, secret

    async def get(self, key_id: str) -> Key:
        """Returns a key. Raises `NotFound`."""
        return _found(await self._store.get(key_id), key_id)

    async def page(self, *, page_size: int, page_token: str) -> KeyPage:
        """Returns a page of keys, newest first."""
        after = page_tokens.decode(page_token, _QUERY)
        if after.id and after.time is None:
            raise page_tokens.no_token()
        size = size_of(page_size)
        found = await self._store.page(after, size + 1)
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = page_tokens.encode(Place(last.id, last.create_time), _QUERY)
        return KeyPage(found[:size], token)

    async def update(
        self, key_id: str, values: Mapping[str, Any], caller: Principal, *, etag: str = ""
    ) -> Key:
        """Changes fields of a key; with an etag, only of the state that the caller read.

        Raises:
            Conflict: the etag differs.
        """
        async with self._store.writing() as tx:
            key = _found(await tx.get(key_id), key_id)
            _require_all_of(key, caller)
            if etag and etag != str(key.version):
                raise Conflict(
                    "'key.etag': the key has changed since it was read. Get it again.",
                    field="key.etag",
                    metadata={"etag": str(key.version)},
                )
            changed = _changed(key, values)
            self._check(changed, values)
            _require_all_of(changed, caller)
            if changed != key:
                changed = replace(changed, version=key.version + 1)
                await tx.put(changed)
        await self._announce()
        return changed

    async def delete(self, key_id: str, caller: Principal) -> None:
        """Revokes a key. Raises `NotFound`."""
        async with self._store.writing() as tx:
            _require_all_of(_found(await tx.get(key_id), key_id), caller)
            await tx.remove(key_id)
        await self._announce()

    def _check(self, key: Key, values: Mapping[str, Any]) -> None:
        """Raises an error where a key can't be like this."""
        if not key.roles:
            raise MissingField("'key.roles': a key needs a role.", field="key.roles")
        check_text(key.display_name, "key.display_name")
        for index, tenant in enumerate(key.tenants):
            if not is_tenant(tenant):
                raise InvalidArgument(
                    f"'key.tenants[{index}]': use at most 128 printable characters, and no slash.",
                    field=f"key.tenants[{index}]",
                )
        for index, model in enumerate(key.allowed_models):
            if not model.isprintable() or "*" in model[:-1]:
                raise InvalidArgument(
                    f"'key.allowed_models[{index}]': name a model or alias; '*' may only be its "
                    "last character.",
                    field=f"key.allowed_models[{index}]",
                )
        end = values.get("expire_time")
        if end is not None and end <= self._clock():
            raise InvalidArgument(
                "'key.expire_time': this time has passed. Delete the key to revoke it.",
                field="key.expire_time",
            )


def _changed(key: Key, values: Mapping[str, Any]) -> Key:
    """Returns a key with other fields, `limits.<name>` among them."""
    limits = values.get("limits", key.limits)
    single = {n.removeprefix(_LIMITS): v for n, v in values.items() if n.startswith(_LIMITS)}
    fields = {name: value for name, value in values.items() if not name.startswith(_LIMITS)}
    return replace(key, **(fields | {"limits": replace(limits, **single)}))


def _found(key: Key | None, key_id: str) -> Key:
    if key is None:
        raise NotFound(
            f"There is no key {key_id[:64]!r}. ListKeys names those that there are; keys of the "
            "token file are changed there."
        )
    return key


def _require_all_of(key: Key, caller: Principal) -> None:
    """Raises `PermissionDenied` where a key gives more than the caller has."""
    for role in key.roles:
        if not caller.holds(role):
            raise _denied(f"it has the role '{role.value}', which you don't hold", role.value)
    for tenant in key.tenants or (DEFAULT_TENANT,):
        if not caller.may_enter(tenant):
            raise _denied(f"it reaches the tenant {tenant!r}, which you don't")
    if caller.allowed_models:
        if not key.allowed_models:
            raise _denied("it may use every model, and you may not: name its models")
        for model in key.allowed_models:
            if not caller.may_use(model):
                raise _denied(f"it may use {model!r}, which you may not")


def _denied(why: str, role: str = "") -> PermissionDenied:
    metadata = {"required_role": role} if role else {}
    return PermissionDenied(f"This key is not yours to give or change: {why}.", metadata=metadata)

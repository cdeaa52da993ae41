"""Where `penstock keys` keeps keys: in the platform's database, or in the token file."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceStub

from policy.following import limits_of
from policy.principals import Limits, Role
from policy.token_entries import TokenEntry, TokenFileError, moment
from policy.token_file import TokenFile
from services.cli.failures import Failure, explain
from services.cli.paging import listed
from services.cli.session import Session
from services.settings import Settings

_TIMEOUT_S = 30.0
_ROLES = {
    Role.USER: pb.ROLE_USER,
    Role.MODEL_MANAGER: pb.ROLE_MODEL_MANAGER,
    Role.TRAINER: pb.ROLE_TRAINER,
    Role.ADMIN: pb.ROLE_ADMIN,
    Role.SUPERADMIN: pb.ROLE_SUPERADMIN,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}

T = TypeVar("T")


class Place(Protocol):
    """Keeps keys; what it fails at is a Failure."""

    kept: str
    """`database` or `file`."""

    def create(self, draft: TokenEntry) -> tuple[TokenEntry, str]:
        """Makes a key like the draft, and returns it with its secret."""
        ...

    def list(self) -> list[TokenEntry]:
        """Returns every key."""
        ...

    def revoke(self, key_id: str) -> TokenEntry | None:
        """Revokes a key and returns it; None where there is none with this ID."""
        ...


class FilePlace:
    """The token file."""

    kept = "file"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._file = TokenFile(session.target.token_file)

    def create(self, draft: TokenEntry) -> tuple[TokenEntry, str]:
        """Makes a key like the draft, and returns it with its secret."""
        return self._used(
            lambda: self._file.create(
                draft.name,
                draft.roles,
                expires_at=moment(draft.expires_at) if draft.expires_at else None,
                tenants=draft.tenants,
                gel_user=draft.gel_user,
                allowed_models=draft.allowed_models,
                limits=draft.limits,
            )
        )

    def list(self) -> list[TokenEntry]:
        """Returns every key, newest first."""
        return self._used(self._file.list)[::-1]

    def revoke(self, key_id: str) -> TokenEntry | None:
        """Revokes a key and returns it; None where there is none with this ID."""
        try:
            return self._used(lambda: self._file.revoke(key_id))
        except KeyError:
            return None

    def _used(self, use: Callable[[], T]) -> T:
        try:
            return use()
        except (OSError, TokenFileError) as error:
            raise Failure(
                f"The token file can't be used: {error}",
                hint=f"It is {self._session.target.token_file}; --data-dir names another "
                "directory.",
            ) from error


class DatabasePlace:
    """The platform's database."""

    kept = "database"

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(self, draft: TokenEntry) -> tuple[TokenEntry, str]:
        """Makes a key like the draft, and returns it with its secret."""

        async def run(stub: KeyServiceStub) -> pb.Key:
            request = service_pb.CreateKeyRequest(key=_message(draft))
            return await stub.CreateKey(request, timeout=_TIMEOUT_S)

        made = self._call(run)
        return _entry(made), made.secret

    def list(self) -> list[TokenEntry]:
        """Returns every key, newest first."""

        async def run(stub: KeyServiceStub) -> Sequence[pb.Key]:
            request = service_pb.ListKeysRequest()
            found, _ = await listed(stub.ListKeys, request, lambda page: page.keys)
            return found

        return [_entry(key) for key in self._call(run)]

    def get(self, key_id: str) -> TokenEntry | None:
        """Returns a key; None where there is none with this ID."""

        async def run(stub: KeyServiceStub) -> pb.Key:
            return await stub.GetKey(
                service_pb.GetKeyRequest(name=_name(key_id)), timeout=_TIMEOUT_S
            )

        found = self._unless_unknown(run)
        return None if found is None else _entry(found)

    def update(self, draft: TokenEntry, paths: Sequence[str]) -> TokenEntry | None:
        """Takes fields of the draft over; None where there is no key with its ID."""

        async def run(stub: KeyServiceStub) -> pb.Key:
            key = _message(draft)
            key.name = _name(draft.id)
            request = service_pb.UpdateKeyRequest(key=key, update_mask=FieldMask(paths=paths))
            return await stub.UpdateKey(request, timeout=_TIMEOUT_S)

        changed = self._unless_unknown(run)
        return None if changed is None else _entry(changed)

    def revoke(self, key_id: str) -> TokenEntry | None:
        """Revokes a key and returns it; None where there is none with this ID."""

        async def run(stub: KeyServiceStub) -> pb.Key:
            name = _name(key_id)
            key = await stub.GetKey(service_pb.GetKeyRequest(name=name), timeout=_TIMEOUT_S)
            await stub.DeleteKey(service_pb.DeleteKeyRequest(name=name), timeout=_TIMEOUT_S)
            return key

        gone = self._unless_unknown(run)
        return None if gone is None else _entry(gone)

    def _unless_unknown(self, run: Callable[[KeyServiceStub], Awaitable[T]]) -> T | None:
        try:
            return self._call(run)
        except Failure as failure:
            if failure.reason == "NOT_FOUND":
                return None
            raise

    def _call(self, run: Callable[[KeyServiceStub], Awaitable[T]]) -> T:
        async def within() -> T:
            async with _opened(self._session) as stub:
                return await run(stub)

        return asyncio.run(within())


def find_place(session: Session, *, file: bool) -> Place:
    """Returns the platform's database, or the token file where that is wanted or no platform runs.

    A platform that was named, or that is known to run, has to answer: else keys would be written
    where it doesn't look for them.
    """
    if file:
        return FilePlace(session)
    try:
        asyncio.run(_greet(session))
    except grpc.aio.AioRpcError as error:
        failure = explain(error, session.model, session.target.key_hint)
        away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)
        named = session.target.model_address != Settings().services.model.address
        if failure.reason or not away:
            raise failure from error
        if named or session.target.record is not None:
            failure.hint += " With --file, the key is one of the data directory's token file."
            raise failure from error
        return FilePlace(session)
    return DatabasePlace(session)


async def _greet(session: Session) -> None:
    async with session.channel(session.model) as opened:
        await KeyServiceStub(opened).GetCaller(service_pb.GetCallerRequest(), timeout=_TIMEOUT_S)


@asynccontextmanager
async def _opened(session: Session) -> AsyncGenerator[KeyServiceStub, None]:
    with session.explained(session.model):
        async with session.channel(session.model) as opened:
            yield KeyServiceStub(opened)


def _name(key_id: str) -> str:
    return f"keys/{key_id.removeprefix('keys/')}"


def _message(entry: TokenEntry) -> pb.Key:
    key = pb.Key(
        display_name=entry.name,
        roles=[_ROLES[role] for role in entry.roles],
        allowed_models=entry.allowed_models,
        limits=pb.Limits(**{name: getattr(entry.limits, name) for name in Limits.__slots__}),
        tenants=entry.tenants,
        gel_user=entry.gel_user,
    )
    if entry.expires_at:
        key.expire_time.FromDatetime(moment(entry.expires_at))
    return key


def _entry(key: pb.Key) -> TokenEntry:
    return TokenEntry(
        id=key.name.removeprefix("keys/"),
        sha256="",
        name=key.display_name,
        roles=tuple(_ROLE_OF[role] for role in key.roles if role in _ROLE_OF),
        created_at=_text(key.create_time),
        expires_at=_text(key.expire_time) if key.HasField("expire_time") else "",
        tenants=tuple(key.tenants),
        gel_user=key.gel_user,
        allowed_models=tuple(key.allowed_models),
        limits=limits_of(key.limits),
    )


def _text(time: Any) -> str:
    read: datetime = time.ToDatetime(UTC)
    return read.isoformat(timespec="seconds")

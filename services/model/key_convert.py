"""API keys to messages and back."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb

from policy.principals import Limits, Principal, Role
from services.errors import InvalidArgument, MissingField
from services.model.key_feed import Changed, Deleted, Heartbeat, KeyEvent, Snapshot
from services.model.key_records import Key

PREFIX = "keys/"
_LIMITS = tuple(Limits.__slots__)
_FIELDS = ("display_name", "roles", "allowed_models", "limits", "tenants", "expire_time")
_PATHS = frozenset((*_FIELDS, *(f"limits.{name}" for name in _LIMITS)))
_ROLES = {
    Role.USER: pb.ROLE_USER,
    Role.MODEL_MANAGER: pb.ROLE_MODEL_MANAGER,
    Role.TRAINER: pb.ROLE_TRAINER,
    Role.ADMIN: pb.ROLE_ADMIN,
    Role.SUPERADMIN: pb.ROLE_SUPERADMIN,
}
_ROLE_OF = {number: role for role, number in _ROLES.items()}


def parse_name(name: str, field: str = "name") -> str:
    """Returns the ID in `keys/{key}`."""
    key_id = name.removeprefix(PREFIX)
    if key_id == name or not key_id or "/" in key_id or "\0" in key_id:
        raise InvalidArgument(f"{name[:300]!r} is not a name like 'keys/{{key}}'.", field=field)
    return key_id


def values(key: pb.Key, paths: Sequence[str] = _FIELDS) -> dict[str, Any]:
    """Reads the fields of these paths."""
    read: dict[str, Any] = {}
    for path in paths:
        field, _, limit = path.partition(".")
        value: Any = getattr(key, field)
        if limit:
            value = getattr(value, limit) if value.HasField(limit) else None
        elif field == "limits":
            value = Limits(*(getattr(value, n) if value.HasField(n) else None for n in _LIMITS))
        elif field == "roles":
            value = tuple(_ROLE_OF[number] for number in key.roles)
        elif field == "expire_time":
            value = key.expire_time.ToDatetime(UTC) if key.HasField("expire_time") else None
        elif field != "display_name":
            value = tuple(dict.fromkeys(value))
        read[path] = value
    return read


def changes(request: service_pb.UpdateKeyRequest) -> dict[str, Any]:
    """Reads the fields that the mask names."""
    paths = list(request.update_mask.paths)
    if not paths:
        raise MissingField(
            f"'update_mask': name the fields to change, of {', '.join(_FIELDS)}.",
            field="update_mask",
        )
    if paths == ["*"]:
        return values(request.key)
    for path in paths:
        if path not in _PATHS:
            raise InvalidArgument(
                f"'update_mask': {path!r} can't be changed. There are {', '.join(_FIELDS)}.",
                field="update_mask",
            )
    return values(request.key, paths)


def key_proto(key: Key, *, secret: str = "", hashes: bool = False) -> pb.Key:
    """Makes the message of a key; its hashes are for services alone."""
    message = pb.Key(
        name=PREFIX + key.id,
        display_name=key.display_name,
        roles=[_ROLES[role] for role in key.roles],
        allowed_models=key.allowed_models,
        limits=limits_proto(key.limits),
        tenants=key.tenants,
        gel_user=key.gel_user,
        secret=secret,
        etag=str(key.version),
    )
    message.create_time.FromDatetime(key.create_time)
    if key.expire_time is not None:
        message.expire_time.FromDatetime(key.expire_time)
    if hashes:
        message.sha256 = key.sha256
        message.scram_verifier = key.scram_verifier
    return message


def limits_proto(limits: Limits) -> pb.Limits:
    """Makes the message of limits."""
    return pb.Limits(**{name: getattr(limits, name) for name in _LIMITS})


def caller_proto(who: Principal, defaults: Limits) -> service_pb.Caller:
    """Makes the message of who calls."""
    return service_pb.Caller(
        id=who.id,
        display_name=who.name,
        roles=[_ROLES[role] for role in sorted(who.roles) if role in _ROLES],
        allowed_models=who.allowed_models,
        limits=limits_proto(who.limits.over(defaults)),
        tenants=who.tenants,
    )


def event_proto(event: KeyEvent, *, heartbeat_s: float) -> service_pb.WatchKeysEvent:
    """Makes the message of a word about keys."""
    message = service_pb.WatchKeysEvent()
    match event:
        case Snapshot(keys):
            message.snapshot.keys.extend(key_proto(key, hashes=True) for key in keys)
            message.snapshot.SetInParent()
        case Changed(key):
            message.changed.CopyFrom(key_proto(key, hashes=True))
        case Deleted(key_id):
            message.deleted = PREFIX + key_id
        case Heartbeat():
            message.heartbeat.FromNanoseconds(int(heartbeat_s * 1e9))
    return message

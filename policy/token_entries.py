"""Keys as the token file keeps them, and as JSON."""

import dataclasses
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from policy.principals import Limits, Principal, Role, is_tenant
from policy.scram import parse_verifier
from policy.tokens import Token

LIMITS = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "concurrency": "concurrent_requests",
    "tokens_per_day": "tokens_per_day",
    "tokens_per_month": "tokens_per_month",
}
"""What limits are called in the file, and here."""


class TokenFileError(Exception):
    """A file of keys can't be read, or is not what it should be."""


@dataclass(frozen=True)
class TokenEntry:
    """A key as the file keeps it: never its secret."""

    id: str
    """Names the key in logs and for `revoke`."""
    sha256: str
    """SHA-256 of the secret, in hex."""
    name: str
    """Name for people."""
    roles: tuple[Role, ...]
    """What it may do."""
    created_at: str
    """When it was made (ISO 8601)."""
    expires_at: str = ""
    """When it ends (ISO 8601). Empty: never."""
    tenants: tuple[str, ...] = ()
    """Tenants that it reaches; `*` is every one. Empty: `default`."""
    gel_user: str = ""
    """The user of Gel's clients that it is the password of."""
    scram: str = field(default="", repr=False)
    """Its verifier, for those clients that prove a password without sending it."""
    allowed_models: tuple[str, ...] = ()
    """Models that it may use. Empty: every model."""
    limits: Limits = field(default_factory=Limits)
    """How much it may use."""

    def token(self) -> Token:
        """Returns the key as it is checked."""
        principal = Principal(
            self.id,
            self.name,
            frozenset(self.roles),
            tenants=self.tenants,
            expires_at=moment(self.expires_at).timestamp() if self.expires_at else None,
            gel_user=self.gel_user,
            limits=self.limits,
            allowed_models=self.allowed_models,
        )
        verifier = parse_verifier(self.scram) if self.gel_user and self.scram else None
        return Token(self.sha256, principal, verifier=verifier)


def moment(text: str) -> datetime:
    """Reads a time (ISO 8601); without a zone it is UTC. Raises `ValueError`."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def to_json(entry: TokenEntry) -> dict[str, Any]:
    """Writes an entry; what says nothing is left out."""
    item: dict[str, Any] = {
        "id": entry.id,
        "sha256": entry.sha256,
        "name": entry.name,
        "roles": [role.value for role in entry.roles],
        "created_at": entry.created_at,
    }
    if entry.expires_at:
        item["expires_at"] = entry.expires_at
    if entry.tenants:
        item["tenants"] = list(entry.tenants)
    if entry.gel_user:
        item |= {"gel_user": entry.gel_user, "scram": entry.scram}
    if entry.allowed_models:
        item["allowed_models"] = list(entry.allowed_models)
    for key, name in LIMITS.items():
        if (value := getattr(entry.limits, name)) is not None:
            item[key] = value
    return item


def from_json(where: str, item: Mapping[str, Any]) -> TokenEntry:
    """Reads an entry; `where` says in errors which one it is. Raises `TokenFileError`."""
    sha256 = item.get("sha256")
    if (
        not isinstance(sha256, str)
        or len(sha256) != 64
        or set(sha256.lower()) - set(string.hexdigits)
    ):
        raise TokenFileError(f"{where}: 'sha256' must be 64 hex digits")
    tenants = _names(where, "tenants", item)
    if not all(is_tenant(tenant) for tenant in tenants):
        raise TokenFileError(
            f"{where}: 'tenants' must be a list of names, without slashes; '*' is every tenant"
        )
    entry = TokenEntry(
        id=str(item.get("id") or f"key-{sha256[:8].lower()}"),
        sha256=sha256.lower(),
        name=str(item.get("name") or ""),
        roles=_roles(where, item.get("roles")),
        created_at=str(item.get("created_at") or ""),
        expires_at=_text(where, "expires_at", item),
        tenants=tenants,
        gel_user=_text(where, "gel_user", item),
        scram=_text(where, "scram", item),
        allowed_models=_names(where, "allowed_models", item),
        limits=_limits(where, item),
    )
    for name, read in (("expires_at", moment), ("scram", parse_verifier)):
        try:
            if text := getattr(entry, name):
                read(text)
        except ValueError:
            what = "an ISO 8601 time" if read is moment else "a SCRAM-SHA-256 verifier"
            raise TokenFileError(f"{where}: '{name}' must be {what}") from None
    return entry


def _text(where: str, name: str, item: Mapping[str, Any]) -> str:
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        raise TokenFileError(f"{where}: '{name}' must be text")
    return value or ""


def _names(where: str, name: str, item: Mapping[str, Any]) -> tuple[str, ...]:
    value = item.get(name)
    if value is None:
        return ()
    names = cast("list[object]", value) if isinstance(value, list) else [None]
    if not all(isinstance(each, str) and each for each in names):
        raise TokenFileError(f"{where}: '{name}' must be a list of names")
    return tuple(dict.fromkeys(cast("list[str]", names)))


def _roles(where: str, value: object) -> tuple[Role, ...]:
    if not isinstance(value, list) or not value:
        raise TokenFileError(f"{where}: 'roles' must be a list with at least one role")
    for name in cast("list[object]", value):
        if not isinstance(name, str) or name not in set(Role):
            known = ", ".join(role.value for role in Role)
            raise TokenFileError(f"{where}: unknown role {name!r}; there are {known}")
    return tuple(dict.fromkeys(Role(name) for name in cast("list[str]", value)))


def _limits(where: str, item: Mapping[str, Any]) -> Limits:
    limits = Limits()
    for key, name in LIMITS.items():
        value = item.get(key)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise TokenFileError(f"{where}: '{key}' must be a whole number; 0 is no limit")
        limits = dataclasses.replace(limits, **{name: value})
    return limits

"""Makes, lists and revokes the tokens of the token file, and makes the admin's key."""

import fcntl
import hashlib
import json
import os
import secrets
import string
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from services.rpc.roles import Role, is_tenant
from services.rpc.scram import is_gel_user, make_verifier

_BASE62 = string.digits + string.ascii_letters
_PREFIX = "pnstk_"
_LENGTH = 40
_MODE = 0o600


class TokenFileError(Exception):
    """The token file can't be read, or is not what it should be."""


@dataclass(frozen=True)
class TokenEntry:
    """A token as the file keeps it: never the token itself."""

    id: str
    """Names the token in logs and for `revoke`."""
    sha256: str
    """SHA-256 of the token, in hex."""
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


def make_token() -> str:
    """Returns a new token: `pnstk_` and 40 base62 characters."""
    return _PREFIX + "".join(secrets.choice(_BASE62) for _ in range(_LENGTH))


def digest(token: str) -> str:
    """Returns what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def ensure_admin_key(data_dir: Path) -> tuple[str, bool]:
    """Returns the admin's key in `<data_dir>/admin-key`, and whether it was made just now."""
    path = data_dir / "admin-key"
    data_dir.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if path.exists() and (key := path.read_text(encoding="utf-8").strip()):
            return key, False
        key = make_token()
        _write(path, key + "\n")
        return key, True


class TokenFile:
    """The token file. Several processes may write it at once; readers never see half of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(
        self,
        name: str,
        roles: Sequence[Role],
        *,
        expires_at: datetime | None = None,
        tenants: Sequence[str] = (),
        gel_user: str = "",
    ) -> tuple[TokenEntry, str]:
        """Adds a token and returns its entry and the token itself, which nothing keeps."""
        for tenant in tenants:
            if not is_tenant(tenant):
                raise ValueError(f"{tenant!r} can't be the name of a tenant.")
        if gel_user and not is_gel_user(gel_user):
            raise ValueError(f"{gel_user!r} can't be the name of a user of Gel.")
        if not roles:
            raise ValueError("A token needs a role.")
        if Role.SERVICE in roles:
            raise ValueError("The role 'service' is for PENSTOCK_SERVICE_TOKEN alone.")
        token = make_token()
        entry = TokenEntry(
            id="key_" + "".join(secrets.choice(_BASE62) for _ in range(12)),
            sha256=digest(token),
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_at=expires_at.astimezone(UTC).isoformat(timespec="seconds")
            if expires_at
            else "",
            tenants=tuple(dict.fromkeys(tenants)),
            gel_user=gel_user,
        )
        with _locked(self._path):
            document = _read_document(self._path)
            if gel_user:
                others = (e.scram for e in read_entries(self._path) if e.gel_user == gel_user)
                entry = replace(entry, scram=make_verifier(token, like=next(others, "")))
            document["tokens"] = [*document["tokens"], _to_json(entry)]
            _write(self._path, _dump(document))
        return entry, token

    def list(self) -> list[TokenEntry]:
        """Returns all entries, oldest first."""
        return list(read_entries(self._path))

    def revoke(self, id_: str) -> TokenEntry:
        """Removes a token and returns its entry. Raises `KeyError` when there is none with this
        ID."""
        with _locked(self._path):
            document = _read_document(self._path)
            kept = [item for item in document["tokens"] if item.get("id") != id_]
            if len(kept) == len(document["tokens"]):
                raise KeyError(id_)
            entry = next(entry for entry in read_entries(self._path) if entry.id == id_)
            document["tokens"] = kept
            _write(self._path, _dump(document))
        return entry


def read_entries(path: Path) -> Iterator[TokenEntry]:
    """Reads a token file; a missing one has no entries. Raises `TokenFileError` when it is
    malformed."""
    for number, item in enumerate(_read_document(path)["tokens"], start=1):
        yield _from_json(path, number, item)


def _from_json(path: Path, number: int, item: Mapping[str, Any]) -> TokenEntry:
    where = f"{path}: token {number}"
    sha256 = item.get("sha256")
    if (
        not isinstance(sha256, str)
        or len(sha256) != 64
        or set(sha256.lower()) - set(string.hexdigits)
    ):
        raise TokenFileError(f"{where}: 'sha256' must be 64 hex digits")
    names = item.get("roles")
    if not isinstance(names, list) or not names:
        raise TokenFileError(f"{where}: 'roles' must be a list with at least one role")
    roles: list[Role] = []
    for name in cast("list[object]", names):
        if not isinstance(name, str) or name not in set(Role):
            known = ", ".join(role.value for role in Role)
            raise TokenFileError(f"{where}: unknown role {name!r}; there are {known}")
        roles.append(Role(name))
    expires_at = str(item.get("expires_at") or "")
    if expires_at:
        try:
            datetime.fromisoformat(expires_at)
        except ValueError:
            raise TokenFileError(f"{where}: 'expires_at' must be an ISO 8601 time") from None
    return TokenEntry(
        id=str(item.get("id") or f"key-{sha256[:8]}"),
        sha256=sha256.lower(),
        name=str(item.get("name") or ""),
        roles=tuple(roles),
        created_at=str(item.get("created_at") or ""),
        expires_at=expires_at,
        tenants=_tenants(where, item.get("tenants")),
        gel_user=str(item.get("gel_user") or ""),
        scram=str(item.get("scram") or ""),
    )


def _tenants(where: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    names = cast("list[object]", value) if isinstance(value, list) else [None]
    if not all(isinstance(name, str) and is_tenant(name) for name in names):
        raise TokenFileError(
            f"{where}: 'tenants' must be a list of names, without slashes; '*' is every tenant"
        )
    return tuple(dict.fromkeys(cast("list[str]", names)))


def _to_json(entry: TokenEntry) -> dict[str, Any]:
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
    return item


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {"tokens": []}
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path} can't be read as text") from error
    if not text.strip():
        return {"tokens": []}
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise TokenFileError(f"{path} is not JSON: {error}") from None
    tokens: Any = (
        cast("dict[str, Any]", document).get("tokens") if isinstance(document, dict) else None
    )
    if not isinstance(tokens, list) or not all(
        isinstance(item, dict) for item in cast("list[object]", tokens)
    ):
        raise TokenFileError(f'{path} must look like {{"tokens": [{{…}}]}}')
    return cast("dict[str, Any]", document)


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keeps other writers out. The lock is a file beside, since the file itself is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, _MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Replaces the file in one step; only the owner may read it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise

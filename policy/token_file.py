"""Makes, lists and revokes the keys of the token file, and makes the admin's key."""

import fcntl
import json
import os
import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from policy.key_secrets import digest, make_id, make_token
from policy.principals import Limits, Role, is_tenant
from policy.scram import is_gel_user, new_verifier
from policy.token_entries import TokenEntry, TokenFileError, from_json, to_json

_MODE = 0o600


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
        allowed_models: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> tuple[TokenEntry, str]:
        """Adds a key and returns its entry and its secret, which nothing keeps."""
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
        end = expires_at.astimezone(UTC).isoformat(timespec="seconds") if expires_at else ""
        entry = TokenEntry(
            id=make_id(),
            sha256=digest(token),
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            expires_at=end,
            tenants=tuple(dict.fromkeys(tenants)),
            gel_user=gel_user,
            allowed_models=tuple(dict.fromkeys(allowed_models)),
            limits=limits or Limits(),
        )
        with _locked(self._path):
            document = _read_document(self._path)
            if gel_user:
                others = (e.scram for e in read_entries(self._path) if e.gel_user == gel_user)
                entry = replace(entry, scram=new_verifier(token, like=next(others, "")))
            document["tokens"] = [*document["tokens"], to_json(entry)]
            _write(self._path, _dump(document))
        return entry, token

    def list(self) -> list[TokenEntry]:
        """Returns all entries, oldest first."""
        return list(read_entries(self._path))

    def revoke(self, id_: str) -> TokenEntry:
        """Removes a key and returns its entry. Raises `KeyError` when there is none with this
        ID."""
        with _locked(self._path):
            document = _read_document(self._path)
            entries = [entry for entry in read_entries(self._path) if entry.id == id_]
            if not entries:
                raise KeyError(id_)
            gone = {entry.sha256 for entry in entries}
            document["tokens"] = [
                item for item in document["tokens"] if item["sha256"].lower() not in gone
            ]
            _write(self._path, _dump(document))
        return entries[0]


def read_entries(path: Path) -> Iterator[TokenEntry]:
    """Reads a token file; a missing one has no entries. Raises `TokenFileError` when it is
    malformed."""
    for number, item in enumerate(_read_document(path)["tokens"], start=1):
        yield from_json(f"{path}: token {number}", item)


def read_admin_key(path: Path) -> str:
    """Returns the admin's key; empty where there is none. Raises `TokenFileError`."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(f"{path} can't be read as text") from error


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
    except (ValueError, RecursionError) as error:
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

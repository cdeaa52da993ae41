"""What a running supervisor leaves in its data directory: a lock, and where everything listens."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

RECORD = "serve.json"
LOCK = "serve.lock"
SERVICE_TOKEN = "service-token"


@dataclass(frozen=True)
class Record:
    """Where a running platform is reached."""

    url: str
    state: str
    """`starting`, `ready` or `stopping`."""
    addresses: Mapping[str, str]
    pids: Mapping[str, int]
    """Of every program, and of the `supervisor`."""

    def write(self, data_dir: Path) -> None:
        """Replaces the record in one step."""
        path = data_dir / RECORD
        draft = path.with_name(f"{RECORD}.{os.getpid()}")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        draft.replace(path)


def read_record(data_dir: Path) -> Record | None:
    """Returns what the supervisor of this directory wrote; None when none runs."""
    try:
        content = json.loads((data_dir / RECORD).read_text(encoding="utf-8"))
        fields = cast("dict[str, Any]", content)
        record = Record(
            url=str(fields["url"]),
            state=str(fields["state"]),
            addresses={str(name): str(value) for name, value in fields["addresses"].items()},
            pids={str(name): int(value) for name, value in fields["pids"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if _is_locked(data_dir) else None


def remove_record(data_dir: Path) -> None:
    """Removes the record of a supervisor that ends."""
    with suppress(FileNotFoundError):
        (data_dir / RECORD).unlink()


class DirectoryInUseError(Exception):
    """Another supervisor holds the directory."""


class DirectoryLock:
    """Keeps a second supervisor out of a data directory, while this process lives."""

    def __init__(self, data_dir: Path) -> None:
        """Takes the lock. Raises DirectoryInUseError when another process has it."""
        self._descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if not self._take():
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise DirectoryInUseError(holder)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def _take(self) -> bool:
        for _ in range(5):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)  # `read_record` may be looking for an instant
            else:
                return True
        return False

    def release(self) -> None:
        """Lets the next supervisor in."""
        os.close(self._descriptor)


def _is_locked(data_dir: Path) -> bool:
    try:
        descriptor = os.open(data_dir / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def ensure_service_token(data_dir: Path) -> str:
    """Returns the token that the services of this directory call each other with; makes it once."""
    path = data_dir / SERVICE_TOKEN
    with suppress(FileNotFoundError):
        if token := path.read_text(encoding="ascii").strip():
            return token
    token = "pst-" + secrets.token_urlsafe(32)
    draft = path.with_name(f"{SERVICE_TOKEN}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    draft.replace(path)
    return token

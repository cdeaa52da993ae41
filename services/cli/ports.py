"""Addresses that programs listen on."""

import errno
import socket
from collections.abc import Collection
from typing import NamedTuple


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parses `host:port` or `[v6]:port`; raises ValueError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port")
    return Address(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))


def listen(address: Address) -> socket.socket | None:
    """Listens there until the socket is closed; None where another one listens.

    Raises OSError for a host that isn't ours.
    """
    family, kind, protocol, _, bound = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(bound)
        listener.listen(1)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return listener


def is_free(address: Address) -> bool:
    """Tells whether a program could listen there. Raises OSError for a host that isn't ours."""
    listener = listen(address)
    if listener is None:
        return False
    listener.close()
    return True


def free_port(host: str, taken: Collection[int] = ()) -> int:
    """Returns a port that nobody listens on and that is not among `taken`."""
    family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def next_free_port(address: Address, attempts: int = 100) -> int | None:
    """Returns the first free port above this one, to suggest instead of it."""
    for port in range(address.port + 1, min(address.port + 1 + attempts, 65536)):
        if is_free(Address(address.host, port)):
            return port
    return None


def connectable(address: Address) -> Address:
    """Returns where clients on this machine reach a program that listens on `address`."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    return Address(everywhere.get(address.host, address.host), address.port)

"""Serves: one server for every service, with limits, health, reflection, TLS and a drain that loses
nothing."""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from policy.pem_files import PemFiles, TlsFileError
from policy.workloads import Peers
from services.rpc.authentication import Authenticator
from services.rpc.handlers import Chain
from services.rpc.health import HealthRegistry
from services.rpc.limits import CallLimits
from services.rpc.router import Registration, Router, UndeclaredMethodError
from services.rpc.transport import MAX_MESSAGE_BYTES, server_credentials, server_options

__all__ = [
    "AddressError",
    "Registration",
    "Server",
    "ServerSettings",
    "ServerTls",
    "TlsFileError",
    "UndeclaredMethodError",
    "serve",
]

_CLEANUP_S = 5.0
_logger = logging.getLogger(__name__)


class AddressError(Exception):
    """The address can't be bound."""


@dataclass(frozen=True)
class ServerTls:
    """Files (PEM) that prove who the server is."""

    certificate: Path
    """The server's certificate and its chain."""
    key: Path
    """Its private key."""
    client_ca: Path | None = None
    """Certificates that clients must be signed by. None: clients need no certificate."""
    peers: Peers = field(default_factory=Peers)
    """Whose certificates they must be, where it names any."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server serves."""

    address: str = "127.0.0.1:0"
    """`host:port` or `unix:path`. Port 0 takes a free one."""
    tls: ServerTls | None = None
    """None serves plain text."""
    grace_s: float = 30.0
    """Time that running calls get to finish when the server stops."""
    drain_delay_s: float = 0.0
    """Time between telling load balancers and refusing new calls."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Largest message, either way."""
    reflection: bool = True
    """Whether tools may ask for the protos."""


class Server:
    """A gRPC server: `start`, `address`, `stop`."""

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Registration],
        *,
        authenticator: Authenticator,
        health: HealthRegistry | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        """Prepares to serve; callers are limited by `limits`. Raises `UndeclaredMethodError` when a
        method does not say who may call it."""
        self._settings = settings
        self._health = health or HealthRegistry()
        peers = settings.tls.peers if settings.tls is not None else None
        self._chain = Chain(authenticator, limits, peers)
        self._router = Router(self._chain)
        self._ready: dict[str, bool] = {}
        for registration in services:
            for service in self._router.add(registration):
                self._ready[service] = registration.ready
        self._router.add_health(self._health)
        if settings.reflection:
            self._router.add_reflection()
        self._server: grpc.aio.Server | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """Where it serves, with the real port; empty until `start`."""
        return self._address

    @property
    def health(self) -> HealthRegistry:
        """What it tells load balancers."""
        return self._health

    async def start(self) -> None:
        """Binds the address and serves. Raises `AddressError`."""
        server = grpc.aio.server(
            handlers=(self._router,), options=server_options(self._settings.max_message_bytes)
        )
        self._address = _bind(server, self._settings)
        await server.start()
        self._server = server
        for service, ready in self._ready.items():
            if self._health.serving(service) is None:
                self._health.set(service, ready)
        self._health.set("", True)

    async def stop(self, grace_s: float | None = None) -> None:
        """Drains: health says NOT_SERVING, new calls are refused, running ones finish or are
        cancelled after the grace.

        `grace_s` replaces the settings' grace. Calling it again, with a shorter grace, shortens the
        wait.
        """
        if self._server is None:
            return
        grace_s = self._settings.grace_s if grace_s is None else grace_s
        if not self._chain.draining.is_set():
            self._health.drain()
            self._chain.draining.set()
            if grace_s > 0:
                await asyncio.sleep(self._settings.drain_delay_s)
            self._chain.end_endless()
        await self._server.stop(grace_s if grace_s > 0 else None)
        if not await self._chain.settled(_CLEANUP_S):
            _logger.warning("%d calls did not end when they were cancelled", self._chain.running)

    async def wait(self) -> None:
        """Waits until it has stopped."""
        if self._server is not None:
            await self._server.wait_for_termination()

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> str:
    address = settings.address
    try:
        if settings.tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, server_credentials(_files(settings.tls)))
    except RuntimeError:
        port = 0
    if address.startswith("unix:"):
        return address
    if port == 0:
        raise AddressError(
            f"Can't listen on {address}: the port is taken, or the host is not this machine's. "
            "Stop what holds it, or choose another with --port (0 takes a free one)."
        )
    return f"{address.rpartition(':')[0]}:{port}"


def _files(tls: ServerTls) -> PemFiles:
    return PemFiles(certificate=tls.certificate, key=tls.key, ca=tls.client_ca)


async def serve(
    name: str,
    settings: ServerSettings,
    services: Sequence[Registration],
    *,
    authenticator: Authenticator,
    health: HealthRegistry | None = None,
    on_ready: Callable[[str], None] | None = None,
    limits: CallLimits | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal cuts the drain short.

    When it listens, one line of JSON on stdout says so: {"service": name, "address": "host:port"};
    `on_ready` is then called with the address.
    """
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(authenticator, contextlib.AbstractAsyncContextManager):
            await stack.enter_async_context(authenticator)  # it follows keys until the end
        server = Server(
            settings, services, authenticator=authenticator, health=health, limits=limits
        )
        await _run(name, server, settings.grace_s, on_ready)


async def _run(
    name: str, server: Server, grace_s: float, on_ready: Callable[[str], None] | None
) -> None:
    await server.start()
    # Before the line below: whoever reads it may stop this process at once.
    with _Signals() as signals:
        print(json.dumps({"service": name, "address": server.address}), flush=True, file=sys.stdout)
        _logger.info("%s listens on %s", name, server.address)
        if on_ready is not None:
            on_ready(server.address)
        stopped = asyncio.ensure_future(server.wait())
        first = asyncio.ensure_future(signals.next())
        await asyncio.wait({stopped, first}, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if not stopped.done():
            _logger.info("%s drains for up to %.0f s", name, grace_s)
            drain = asyncio.ensure_future(server.stop())
            second = asyncio.ensure_future(signals.next())
            await asyncio.wait({drain, second}, return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
            if not drain.done():
                await server.stop(0)
            await drain
        await stopped
    _logger.info("%s stopped", name)


class _Signals:
    """SIGTERM and SIGINT as something to await."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[None] = asyncio.Queue()

    def __enter__(self) -> "_Signals":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._arrived.put_nowait, None)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                self._loop.remove_signal_handler(number)

    async def next(self) -> None:
        """Waits for the next signal."""
        await self._arrived.get()

"""Runs the edge: `python -m gateway --port N --config FILE --data-dir DIR`."""

import argparse
import asyncio
import json
import signal
import socket
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop

from gateway import logs
from gateway.app import build
from gateway.clients import Clients
from gateway.protocol import Protocol
from gateway.settings import Settings, load
from gateway.settings_values import SettingsError
from policy.pem_files import TlsFileError
from policy.token_entries import TokenFileError
from telemetry.process import Telling, TellingError, telling

_BACKLOG = 2048
_KEEP_ALIVE_S = 75


class Server(uvicorn.Server):
    """Says when it listens, and ends with a clean exit code after a signal."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and prints the ready line."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            print(json.dumps({"service": "gateway", "address": address}), flush=True)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Lets SIGTERM and SIGINT drain; a second one ends at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the settings, runs until a signal comes, and returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(options.config, data_dir=options.data_dir, port=options.port)
    except SettingsError as error:
        return _fail(str(error))
    if not settings.api.enabled:
        return _fail("the REST API is switched off: set [api] enabled = true to run the edge")
    logs.configure(settings.log)
    try:
        listener = listen(*settings.host_port)
    except OSError as error:
        return _fail(f"can't listen on {settings.api.address}: {error.strerror or error}")
    try:
        uvloop.run(_told(settings, listener))
    except (OSError, SettingsError, TlsFileError, TokenFileError, TellingError) as error:
        return _fail(str(error))
    return 0


async def _told(settings: Settings, listener: socket.socket) -> None:
    """Serves, and tells metrics and traces of it."""
    api, endpoint = settings.api, settings.telemetry.otlp_endpoint
    async with telling(Telling("gateway", api.address, api.metrics_address, endpoint)):
        await _serve(settings, listener)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    config = uvicorn.Config(
        build(settings, Clients(settings)),
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.drain_s,
    )
    await Server(config).serve([listener])


def listen(host: str, port: int) -> socket.socket:
    """Binds before anything else is done, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol: where asyncio can't tell that it is TCP, answers wait 40 ms to be sent.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway", description="Runs the REST edge.")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--config", type=Path, help="configuration file (penstock.toml)")
    parser.add_argument("--data-dir", type=Path, help="folder of keys and tokens")
    return parser


def _fail(message: str) -> int:
    print(f"gateway: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

"""A service's process, from its arguments to its exit code."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

import uvloop

from services.rpc import logs
from services.rpc.channels import ClientTls
from services.rpc.keys import TokenFileError
from services.rpc.server import AddressError, ServerSettings, ServerTls
from services.rpc.tokens import TokenSources, TokenStore
from services.rpc.transport import TlsFileError
from services.settings import ServiceName, Settings, SettingsError, from_command_line

FAILED = 1
"""Exit code of a process that could not start: the reason is on stderr in one line."""

_logger = logging.getLogger(__name__)


def run_service(name: ServiceName, main: Callable[[Settings], Awaitable[None]]) -> NoReturn:
    """Runs a service: reads its arguments and settings, sets up logs, runs `main` on uvloop, and
    exits.

    if __name__ == "__main__":
        run_service("model", main)
    """
    try:
        settings = from_command_line(name)
        logs.set_up(settings.log.level, settings.log.format)
        uvloop.run(_stoppable(main(settings)))
    except (SettingsError, AddressError, TlsFileError, TokenFileError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        _logger.exception("%s failed", name)
        sys.exit(FAILED)
    sys.exit(0)


async def _stoppable(main: Awaitable[None]) -> None:
    """Runs `main`; SIGTERM before it serves cancels it, so that it cleans up behind itself."""
    task = asyncio.ensure_future(main)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def server_settings(settings: Settings, name: ServiceName) -> ServerSettings:
    """Returns how a service serves."""
    own, tls = settings.services.of(name), settings.tls
    files = None
    if tls.certificate is not None and tls.key is not None:
        files = ServerTls(tls.certificate, tls.key, tls.client_ca)
    return ServerSettings(
        address=own.address,
        tls=files,
        grace_s=own.grace_s,
        drain_delay_s=own.drain_delay_s,
        reflection=own.reflection,
    )


def token_store(settings: Settings) -> TokenStore:
    """Returns what authenticates calls."""
    return TokenStore(
        TokenSources(
            api_tokens=settings.auth.api_tokens,
            api_key=settings.api.api_key,
            service_token=settings.auth.service_token,
            admin_key_file=settings.services.data_dir / "admin-key",
            token_file=settings.auth.token_file,
            require_auth=settings.api.require_auth,
        )
    )


def client_tls(settings: Settings) -> ClientTls | None:
    """Returns how calls to other services are secured; None for plain text.

    Servers are checked against `client_ca`, which signs every process; without one, against the
    shared certificate.
    """
    tls = settings.tls
    if tls.certificate is None:
        return None
    if tls.client_ca is None:
        return ClientTls(ca=tls.certificate)
    return ClientTls(ca=tls.client_ca, certificate=tls.certificate, key=tls.key)

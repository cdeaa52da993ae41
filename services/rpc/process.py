"""A service's process, from its arguments to its exit code."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import uvloop

from policy.fed_keys import FedKeys
from policy.limiting import Limiting, LimitSettings
from policy.limits_port import WhenUnavailable
from policy.pem_files import TlsFileError
from policy.principals import Limits
from policy.token_entries import TokenFileError
from policy.token_store import TokenSources
from policy.vouchers import Vouchers
from services.rpc import logs
from services.rpc.authentication import CallAuthenticator, Identities
from services.rpc.channels import ClientTls
from services.rpc.identities import jwt_of, peers_of, workloads_of
from services.rpc.key_feed import FollowingAuthenticator
from services.rpc.limits import CallLimits
from services.rpc.server import AddressError, ServerSettings, ServerTls
from services.settings import ServiceName, Settings, SettingsError, from_command_line
from telemetry.process import Telling, TellingError, telling

FAILED = 1
"""Exit code of a process that could not start: the reason is on stderr in one line."""

_FOR_PEOPLE = (SettingsError, AddressError, TellingError, TlsFileError, TokenFileError)
"""What a line says it all of."""

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
        uvloop.run(_stoppable(_told(name, settings, main)))
    except _FOR_PEOPLE as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        _logger.exception("%s failed", name)
        sys.exit(FAILED)
    sys.exit(0)


async def _told(
    name: ServiceName, settings: Settings, main: Callable[[Settings], Awaitable[None]]
) -> None:
    """Runs `main`, and tells metrics and traces of it."""
    own = settings.services.of(name)
    endpoint = settings.telemetry.otlp_endpoint
    async with telling(Telling(name, own.address, own.metrics_address, endpoint)):
        await main(settings)


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
        files = ServerTls(tls.certificate, tls.key, tls.client_ca, peers_of(settings))
    return ServerSettings(
        address=own.address,
        tls=files,
        grace_s=own.grace_s,
        drain_delay_s=own.drain_delay_s,
        reflection=own.reflection,
    )


def authenticator_of(settings: Settings, keys: FedKeys | None = None) -> CallAuthenticator:
    """Returns what authenticates calls: with the keys of ModelService where there is a service
    token to ask for them with, unless `keys` are those."""
    sources = TokenSources(
        api_tokens=settings.auth.api_tokens,
        api_key=settings.api.api_key,
        service_token=settings.auth.service_token,
        admin_key_file=settings.services.data_dir / "admin-key",
        token_file=settings.auth.token_file,
    )
    more = Identities(
        jwt=jwt_of(settings),
        workloads=workloads_of(settings),
        require_auth=settings.api.require_auth,
    )
    if keys is not None or not settings.auth.service_token:
        return CallAuthenticator(sources, keys, more)
    target = settings.services.model.target
    return FollowingAuthenticator(sources, target, more, tls=client_tls(settings))


@contextlib.asynccontextmanager
async def limited(settings: Settings) -> AsyncGenerator["ProcessLimits"]:
    """Counts the limits of a service's process while the block runs."""
    limiting = limiting_of(settings)
    try:
        vouchers = Vouchers(settings.auth.service_token)
        yield ProcessLimits(limiting, CallLimits(limiting.requests, vouchers))
    finally:
        await limiting.close()


@dataclass(frozen=True)
class ProcessLimits:
    """What limits callers of a process."""

    counting: Limiting
    """Counts; also tokens."""
    calls: CallLimits
    """Limits calls."""


def default_limits(settings: Settings) -> Limits:
    """Returns the limits of those who have none of their own."""
    limits, api = settings.limits, settings.api
    return Limits(
        requests_per_minute=api.max_requests_per_minute,
        tokens_per_minute=api.max_tokens_per_minute,
        concurrent_requests=limits.concurrent_requests,
        tokens_per_day=limits.tokens_per_day,
        tokens_per_month=limits.tokens_per_month,
    )


def limiting_of(settings: Settings) -> Limiting:
    """Returns what counts the limits of a service's process."""
    return Limiting(
        LimitSettings(
            default_limits(settings),
            when_unavailable=WhenUnavailable(settings.limits.when_unavailable),
            redis_url=settings.redis.url,
            redis_timeout_s=settings.redis.timeout_s,
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

"""`penstock serve`: the whole platform under one supervisor."""

import asyncio
import sys
from pathlib import Path

import click

from policy.token_file import ensure_admin_key
from services.cli.failures import UsageFailure
from services.cli.output import Output
from services.cli.plan import Wish, edge_address, make_plan
from services.cli.record import (
    DirectoryInUseError,
    DirectoryLock,
    ensure_service_token,
    read_record,
)
from services.cli.roster import EDGE, runnable
from services.cli.serving import Serving
from services.cli.session import common_options, failures_as
from services.cli.target import read_settings
from services.settings import Settings

_APART = (
    "Limits of tokens: inference and embedding count apart, so a key may use each limit once with "
    "either. Set [redis] url, and they count together."
)


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Of the edge. Default 8080; 0 is a free one."
)
@click.option("--host", help="Where the edge listens. Default 127.0.0.1; 0.0.0.0 is everywhere.")
@click.option(
    "--engine",
    type=click.Choice(["torch", "openvino", "echo"]),
    help="What performs inference.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--verbose", "-v", is_flag=True, help="Show all logs here, not just warnings.")
@common_options
def serve(
    port: int | None,
    host: str | None,
    engine: str | None,
    log_level: str | None,
    verbose: bool,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Start the platform: every service, and the edge that speaks HTTP.

    Ends with Ctrl-C: what runs finishes first, a second Ctrl-C stops at once.
    """
    wish = Wish(config, data_dir, host, port, engine, log_level)
    with failures_as(as_json):
        code = _serve(wish, Output(as_json), verbose)
    sys.exit(code)


def _serve(wish: Wish, output: Output, verbose: bool) -> int:
    settings = read_settings(wish.config, wish.data_dir)
    entries = [entry for entry in runnable() if entry is not EDGE or settings.api.enabled]
    if EDGE not in entries:
        _refuse_address(wish, settings)
    settings = read_settings(wish.config, wish.data_dir, wish.overrides(settings))
    data_dir = settings.services.data_dir.absolute()
    lock = _lock(data_dir)
    try:
        if EDGE in entries:
            edge_address(settings.api.address)  # before anything is written
        key, is_new = ensure_admin_key(data_dir)
        token = settings.auth.service_token or ensure_service_token(data_dir)
        plan = make_plan(entries, settings, wish, token)
        if counted_apart(settings):
            output.note(_APART, "yellow")
        serving = Serving(
            plan=plan,
            settings=settings,
            data_dir=data_dir,
            config=wish.config,
            service_token=token,
            new_key=key if is_new else None,
            output=output,
            verbose=verbose,
        )
        return asyncio.run(serving.run())
    finally:
        lock.release()


def counted_apart(settings: Settings) -> bool:
    """Tells whether tokens are limited, and each service counts them for itself."""
    limits = (
        settings.api.max_tokens_per_minute,
        settings.limits.tokens_per_day,
        settings.limits.tokens_per_month,
    )
    return any(limits) and not settings.redis.url


def _refuse_address(wish: Wish, settings: Settings) -> None:
    """Refuses the options of an edge that won't run."""
    options = {"--host": wish.host, "--port": wish.port}
    given = [option for option, value in options.items() if value is not None]
    if not given:
        return
    why = "it is not installed here" if settings.api.enabled else "[api] enabled is false"
    raise UsageFailure(
        f"{' and '.join(given)} would be the edge's, which does not run: {why}.",
        hint="Leave them out" + ("." if settings.api.enabled else ", or set enabled to true."),
        field="" if settings.api.enabled else "api.enabled",
    )


def _lock(data_dir: Path) -> DirectoryLock:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return DirectoryLock(data_dir)
    except DirectoryInUseError as error:
        record = read_record(data_dir)
        where = f" at {record.url}" if record and record.url else ""
        raise UsageFailure(
            f"Penstock already runs on {data_dir} (process {error}){where}.",
            hint="Stop it, or choose another directory with --data-dir.",
        ) from error
    except OSError as error:
        raise UsageFailure(
            f"The data directory {data_dir} can't be used: {error.strerror}.",
            hint="Choose another with --data-dir.",
        ) from error

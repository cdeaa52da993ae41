"""Options of `penstock keys`, and how they are read."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from policy.principals import Limits, Role, is_tenant
from policy.scram import is_gel_user
from policy.token_entries import LIMITS
from services.cli.failures import UsageFailure

ROLES = [role.value for role in Role if role is not Role.SERVICE]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LIMIT_HELP = {
    "rpm": "Requests a minute.",
    "tpm": "Tokens a minute, prompt and output together.",
    "concurrency": "Requests that run or wait at once.",
    "tokens_per_day": "Tokens a day (UTC).",
    "tokens_per_month": "Tokens a calendar month (UTC).",
}

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _limit(text: str) -> int | str:
    """Reads a whole number, or `default`, which takes what the configuration says."""
    if text == "default":
        return text
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise click.BadParameter("write a whole number (0 is no limit), or 'default'")
    return int(text)


def limit_options(function: Decorated) -> Decorated:
    """Adds an option for each limit."""
    for name in reversed(LIMITS):
        function = click.option(
            f"--{name.replace('_', '-')}",
            name,
            type=_limit,
            metavar="N",
            help=f"{_LIMIT_HELP[name]} 0: no limit. Default: what the configuration says.",
        )(function)
    return function


model_option = click.option(
    "--model",
    "models",
    metavar="ID",
    multiple=True,
    help="Model that the key may use, by ID or alias; may be given again. 'gpt*' is every ID that "
    "begins so. Default: every model.",
)
tenant_option = click.option(
    "--tenant",
    "tenants",
    metavar="NAME",
    multiple=True,
    help="Tenant whose collections the key reaches, instead of 'default'; may be given again. "
    "'*' is every tenant.",
)
file_option = click.option(
    "--file",
    "file",
    is_flag=True,
    help="In the data directory's token file, also where a platform runs.",
)


def parse_span(text: str) -> timedelta:
    """Parses `90m`, `12h`, `30d` or `8w`. Raises Failure for anything else."""
    if match := re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text.strip()):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    raise UsageFailure(
        f"{text!r} is not a span of time.",
        hint="Write a number and m, h, d or w: 12h, 30d, 8w.",
        field="expires",
    )


def end_of(span: str) -> str:
    """Returns when a span that begins now ends."""
    return (datetime.now(UTC) + parse_span(span)).isoformat(timespec="seconds")


def given_limits(options: dict[str, int | str | None]) -> Limits:
    """Reads the options of limits."""
    numbers = {LIMITS[short]: value for short, value in options.items() if isinstance(value, int)}
    return Limits(**numbers)


def checked_tenants(tenants: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the tenants. Raises UsageFailure where one can't be named so."""
    for tenant in tenants:
        if not is_tenant(tenant):
            raise UsageFailure(
                f"{tenant!r} can't be the name of a tenant.",
                hint="Take up to 128 printable characters, and no slash.",
                field="tenant",
            )
    return tuple(dict.fromkeys(tenants))


def checked_models(models: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the models. Raises UsageFailure where none can be named so."""
    for model in models:
        if not model or not model.isprintable() or "*" in model[:-1]:
            raise UsageFailure(
                f"{model!r} can't be the name of a model.",
                hint="Name an ID or an alias; '*' may only be the last character.",
                field="model",
            )
    return tuple(dict.fromkeys(models))


def checked_gel_user(name: str | None) -> str:
    """Returns the user; empty for none. Raises UsageFailure where none can be named so."""
    if name is not None and not is_gel_user(name):
        raise UsageFailure(
            f"{name!r} can't be the name of a user of Gel.",
            hint="Take up to 64 letters, digits and the characters _ . @ + -",
            field="gel-user",
        )
    return name or ""

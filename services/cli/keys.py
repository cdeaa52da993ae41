"""`penstock keys`: tokens that callers identify themselves with."""

import re
from datetime import UTC, datetime, timedelta

import click
from rich.text import Text

from services.cli.failures import Failure, UsageFailure
from services.cli.output import printable
from services.cli.session import Session, client_command
from services.rpc.keys import TokenEntry, TokenFile, TokenFileError
from services.rpc.roles import DEFAULT_TENANT, Role, is_tenant
from services.rpc.scram import is_gel_user

ROLES = [role.value for role in Role if role is not Role.SERVICE]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    Keys lie, as hashes, in the token file of the data directory; running servers notice a
    change by themselves.
    """


@keys.command()
@click.argument("name")
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    default=["user"],
    show_default=True,
    help="What the key may do; may be given again.",
)
@click.option("--expires", metavar="SPAN", help="Ends after a span such as 12h, 30d or 8w.")
@click.option(
    "--tenant",
    "tenants",
    metavar="NAME",
    multiple=True,
    help="Tenant whose collections the key reaches, instead of 'default'; may be given again. "
    "'*' is every tenant.",
)
@click.option(
    "--gel-user",
    metavar="NAME",
    help="User name that Gel's clients give, with the key as their password.",
)
@client_command
def create(
    session: Session,
    name: str,
    roles: tuple[str, ...],
    expires: str | None,
    tenants: tuple[str, ...],
    gel_user: str | None,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    expires_at = datetime.now(UTC) + parse_span(expires) if expires else None
    for tenant in tenants:
        if not is_tenant(tenant):
            raise UsageFailure(
                f"{tenant!r} can't be the name of a tenant.",
                hint="Take up to 128 printable characters, and no slash.",
                field="tenant",
            )
    if gel_user is not None and not is_gel_user(gel_user):
        raise UsageFailure(
            f"{gel_user!r} can't be the name of a user of Gel.",
            hint="Take up to 64 letters, digits and the characters _ . @ + -",
            field="gel-user",
        )
    try:
        entry, token = _file(session).create(
            name,
            [Role(role) for role in roles],
            expires_at=expires_at,
            tenants=tenants,
            gel_user=gel_user or "",
        )
    except (OSError, TokenFileError) as error:
        raise _unusable(session, error) from error
    if session.output.as_json:
        session.output.data({**_to_dict(entry), "key": token})
        return
    session.output.facts(
        {
            "key": Text(token, style="bold"),
            "id": entry.id,
            "name": printable(entry.name),
            "roles": ", ".join(entry.roles),
            "tenants": _tenants(entry),
            "gel user": printable(entry.gel_user),
            "expires": entry.expires_at,
        }
    )
    session.output.note("Keep the key now: it is not shown again.", "yellow")


@keys.command("list")
@client_command
def list_(session: Session) -> None:
    """List all keys of the token file, without the keys themselves."""
    try:
        entries = _file(session).list()
    except (OSError, TokenFileError) as error:
        raise _unusable(session, error) from error
    if session.output.as_json:
        session.output.data([_to_dict(entry) for entry in entries])
    elif entries:
        session.output.table(
            ("id", "name", "roles", "tenants", "gel user", "created", "expires"),
            (
                (
                    entry.id,
                    printable(entry.name),
                    ", ".join(entry.roles),
                    _tenants(entry),
                    printable(entry.gel_user),
                    entry.created_at[:10],
                    _expiry(entry),
                )
                for entry in entries
            ),
        )
    else:
        session.output.note("No keys. `penstock keys create NAME` makes one.")


@keys.command()
@click.argument("key_id")
@client_command
def revoke(session: Session, key_id: str) -> None:
    """Revoke the key with this ID; it stops working within a second."""
    try:
        entry = _file(session).revoke(key_id)
    except KeyError:
        raise Failure(
            f"There is no key with the ID {key_id!r}.", hint="`penstock keys list` shows the IDs."
        ) from None
    except (OSError, TokenFileError) as error:
        raise _unusable(session, error) from error
    if session.output.as_json:
        session.output.data({"revoked": entry.id})
    session.output.say(printable(f"{entry.id} ({entry.name}) is revoked."))


def parse_span(text: str) -> timedelta:
    """Parses `90m`, `12h`, `30d` or `8w`. Raises Failure for anything else."""
    if match := re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text.strip()):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    raise UsageFailure(
        f"{text!r} is not a span of time.",
        hint="Write a number and m, h, d or w: 12h, 30d, 8w.",
        field="expires",
    )


def _file(session: Session) -> TokenFile:
    return TokenFile(session.target.token_file)


def _to_dict(entry: TokenEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "name": entry.name,
        "roles": [role.value for role in entry.roles],
        "tenants": list(entry.tenants) or [DEFAULT_TENANT],
        "gel_user": entry.gel_user or None,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at or None,
    }


def _tenants(entry: TokenEntry) -> str:
    return printable(", ".join(entry.tenants or (DEFAULT_TENANT,)))


def _expiry(entry: TokenEntry) -> Text:
    if not entry.expires_at:
        return Text("never", style="dim")
    moment = datetime.fromisoformat(entry.expires_at)
    over = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) <= datetime.now(UTC)
    return Text(entry.expires_at[:10], style="red" if over else "")


def _unusable(session: Session, error: Exception) -> Failure:
    return Failure(
        f"The token file can't be used: {error}",
        hint=f"It is {session.target.token_file}; --data-dir names another directory.",
    )

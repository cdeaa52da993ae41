"""`penstock keys`: keys that callers identify themselves with."""

import click

from policy.principals import Role
from policy.token_entries import LIMITS, TokenEntry
from services.cli.failures import Failure, UsageFailure
from services.cli.key_options import (
    ROLES,
    checked_gel_user,
    checked_models,
    checked_tenants,
    end_of,
    file_option,
    given_limits,
    limit_options,
    model_option,
    tenant_option,
)
from services.cli.key_places import DatabasePlace, FilePlace, Place, find_place
from services.cli.key_view import key_dict, show_key, show_keys
from services.cli.output import printable
from services.cli.session import Session, client_command

_NEVER = "never"


@click.group()
def keys() -> None:
    """Create, list, change and revoke API keys.

    Keys are kept, as hashes, in the database of the platform that runs. Where none runs, they are
    written to the token file of the data directory. Either way, running servers notice a change
    within a second.
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
@model_option
@limit_options
@click.option("--expires", metavar="SPAN", help="Ends after a span such as 12h, 30d or 8w.")
@tenant_option
@click.option(
    "--gel-user",
    metavar="NAME",
    help="User name that Gel's clients give, with the key as their password.",
)
@file_option
@client_command
def create(
    session: Session,
    name: str,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    expires: str | None,
    tenants: tuple[str, ...],
    gel_user: str | None,
    file: bool,
    **limits: int | str | None,
) -> None:
    """Make a key. It is shown once and kept nowhere."""
    draft = TokenEntry(
        id="",
        sha256="",
        name=name,
        roles=tuple(dict.fromkeys(Role(role) for role in roles)),
        created_at="",
        expires_at=end_of(expires) if expires else "",
        tenants=checked_tenants(tenants),
        gel_user=checked_gel_user(gel_user),
        allowed_models=checked_models(models),
        limits=given_limits(limits),
    )
    place = find_place(session, file=file)
    entry, secret = place.create(draft)
    if session.output.as_json:
        session.output.data({**key_dict(entry, place.kept), "key": secret})
        return
    show_key(session.output, entry, place.kept, secret)
    _say_where(session, place)
    session.output.note("Keep the key now: it is not shown again.", "yellow")


@keys.command("list")
@file_option
@client_command
def list_(session: Session, file: bool) -> None:
    """List all keys, of the database and of the token file, without the keys themselves."""
    place = find_place(session, file=file)
    found = [(entry, place.kept) for entry in place.list()]
    if not isinstance(place, FilePlace):
        beside = FilePlace(session)
        found += [(entry, beside.kept) for entry in beside.list()]
    if session.output.as_json:
        session.output.data([key_dict(entry, kept) for entry, kept in found])
    elif found:
        show_keys(session.output, found)
        _say_where(session, place)
    else:
        session.output.note("No keys. `penstock keys create NAME` makes one.")


@keys.command()
@click.argument("key_id")
@file_option
@client_command
def show(session: Session, key_id: str, file: bool) -> None:
    """Show the key with this ID, without the key itself."""
    place = find_place(session, file=file)
    kept, entry = place.kept, place.get(key_id) if isinstance(place, DatabasePlace) else None
    if entry is None:
        beside = FilePlace(session)
        kept, entry = beside.kept, next((e for e in beside.list() if e.id == key_id), None)
    if entry is None:
        raise _unknown(key_id)
    if session.output.as_json:
        session.output.data(key_dict(entry, kept))
    else:
        show_key(session.output, entry, kept)


@keys.command()
@click.argument("key_id")
@click.option("--name", help="Name for people.")
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    help="What the key may do, instead of what it may now; may be given again.",
)
@model_option
@click.option("--any-model", is_flag=True, help="The key may use every model.")
@limit_options
@click.option(
    "--expires", metavar="SPAN", help="Ends after a span such as 12h, 30d or 8w; or 'never'."
)
@tenant_option
@client_command
def update(
    session: Session,
    key_id: str,
    name: str | None,
    roles: tuple[str, ...],
    models: tuple[str, ...],
    any_model: bool,
    expires: str | None,
    tenants: tuple[str, ...],
    **limits: int | str | None,
) -> None:
    """Change the key with this ID; what is not named stays as it is."""
    if models and any_model:
        raise UsageFailure("--model and --any-model exclude each other.", field="any-model")
    changes = {
        "display_name": name is not None,
        "roles": bool(roles),
        "allowed_models": bool(models) or any_model,
        "tenants": bool(tenants),
        "expire_time": expires is not None,
    }
    paths = [path for path, wanted in changes.items() if wanted]
    paths += [f"limits.{LIMITS[short]}" for short, value in limits.items() if value is not None]
    if not paths:
        raise UsageFailure("Nothing to change.", hint="--help lists what can be changed.")
    draft = TokenEntry(
        id=key_id,
        sha256="",
        name=name or "",
        roles=tuple(dict.fromkeys(Role(role) for role in roles)),
        created_at="",
        expires_at=end_of(expires) if expires and expires != _NEVER else "",
        tenants=checked_tenants(tenants),
        allowed_models=checked_models(models),
        limits=given_limits(limits),
    )
    place = find_place(session, file=False)
    changed = place.update(draft, paths) if isinstance(place, DatabasePlace) else None
    if changed is None:
        if any(entry.id == key_id for entry in FilePlace(session).list()):
            raise Failure(
                f"{key_id} is a key of the token file, which can't be changed here.",
                hint=f"Edit {session.target.token_file}, or revoke the key and make another.",
            )
        raise _unknown(key_id)
    if session.output.as_json:
        session.output.data(key_dict(changed, place.kept))
    else:
        show_key(session.output, changed, place.kept)


@keys.command()
@click.argument("key_id")
@file_option
@client_command
def revoke(session: Session, key_id: str, file: bool) -> None:
    """Revoke the key with this ID; it stops working within a second."""
    place = find_place(session, file=file)
    entry = place.revoke(key_id)
    if entry is None and not isinstance(place, FilePlace):
        place = FilePlace(session)
        entry = place.revoke(key_id)
    if entry is None:
        raise _unknown(key_id)
    if session.output.as_json:
        session.output.data({"revoked": entry.id, "kept": place.kept})
    session.output.say(printable(f"{entry.id} ({entry.name}) is revoked."))


def _say_where(session: Session, place: Place) -> None:
    if isinstance(place, FilePlace):
        where = session.target.token_file
        session.output.note(f"Token file {where}: no platform runs here, or --file was given.")


def _unknown(key_id: str) -> Failure:
    return Failure(
        f"There is no key with the ID {key_id!r}.", hint="`penstock keys list` shows the IDs."
    )

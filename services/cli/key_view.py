"""How `penstock keys` shows keys."""

from datetime import UTC, datetime

from rich.text import Text

from policy.principals import DEFAULT_TENANT
from policy.token_entries import LIMITS, TokenEntry, moment
from services.cli.output import Output, printable

_COLUMNS = ("id", "name", "roles", "models", "limits", "tenants", "gel user", "created", "expires")


def key_dict(entry: TokenEntry, kept: str) -> dict[str, object]:
    """Returns what scripts get of a key."""
    return {
        "id": entry.id,
        "name": entry.name,
        "roles": [role.value for role in entry.roles],
        "allowed_models": list(entry.allowed_models),
        "limits": {short: getattr(entry.limits, name) for short, name in LIMITS.items()},
        "tenants": list(entry.tenants) or [DEFAULT_TENANT],
        "gel_user": entry.gel_user or None,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at or None,
        "kept": kept,
    }


def show_key(output: Output, entry: TokenEntry, kept: str, secret: str = "") -> None:
    """Shows one key."""
    shown: dict[str, str | Text] = {"key": Text(secret, style="bold")} if secret else {}
    output.facts(
        shown
        | {
            "id": entry.id,
            "name": printable(entry.name),
            "roles": ", ".join(entry.roles),
            "models": printable(", ".join(entry.allowed_models)),
            "limits": _limits(entry),
            "tenants": _tenants(entry),
            "gel user": printable(entry.gel_user),
            "expires": entry.expires_at,
            "kept in": kept,
        }
    )


def show_keys(output: Output, found: list[tuple[TokenEntry, str]]) -> None:
    """Shows a table of keys and where each is kept."""
    output.table(
        (*_COLUMNS, "kept in"),
        (
            (
                entry.id,
                printable(entry.name),
                ", ".join(entry.roles),
                printable(", ".join(entry.allowed_models)),
                _limits(entry),
                _tenants(entry),
                printable(entry.gel_user),
                entry.created_at[:10],
                _expiry(entry),
                kept,
            )
            for entry, kept in found
        ),
    )


def _limits(entry: TokenEntry) -> str:
    given = ((short, getattr(entry.limits, name)) for short, name in LIMITS.items())
    return ", ".join(
        f"{short} {'unlimited' if value == 0 else value}"
        for short, value in given
        if value is not None
    )


def _tenants(entry: TokenEntry) -> str:
    return printable(", ".join(entry.tenants or (DEFAULT_TENANT,)))


def _expiry(entry: TokenEntry) -> Text:
    if not entry.expires_at:
        return Text("never", style="dim")
    over = moment(entry.expires_at) <= datetime.now(UTC)
    return Text(entry.expires_at[:10], style="red" if over else "")

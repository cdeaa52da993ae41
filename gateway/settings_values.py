"""Values of settings: from TOML they are typed already, from the environment they are text."""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

_SECRETS = ("API_TOKENS", "PENSTOCK_SERVICE_TOKEN", "PENSTOCK_API_API_KEY", "PENSTOCK_REDIS_URL")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(Exception):
    """A setting is unknown or has a value that is not allowed. The message is for people."""


def coerce(value: object, kind: Any, name: str) -> object:
    """Gives `value` the type of a settings field; text is read as the environment writes it."""
    if kind is bool:
        return _boolean(value, name)
    if kind is int:
        return _integer(value, name)
    if kind is float:
        return _number(value, name)
    if kind is str:
        if not isinstance(value, str):
            raise SettingsError(f"{name} must be text, not {value!r}")
        return value
    return _texts(value, name)


def split_address(address: str, name: str) -> tuple[str, int]:
    """Splits host:port. IPv6 hosts are written in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{name} must be host:port, not {address!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)


def with_secrets(env: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the environment with the secrets that files hold: `$PENSTOCK_REDIS_URL_FILE` names
    the file of `$PENSTOCK_REDIS_URL`."""
    found = dict(env)
    for name in _SECRETS:
        file = found.pop(f"{name}_FILE", None)
        if file is None:
            continue
        if name in found:
            raise SettingsError(f"${name} and ${name}_FILE are both set: set one")
        try:
            found[name] = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"${name}_FILE: {file} can't be read: {error}") from None
    return found


def section_table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Returns a section of the file."""
    value = document.get(name, {})
    if not isinstance(value, dict):
        raise SettingsError(f"[{name}] must be a table")
    return cast("dict[str, Any]", value)


def section_tables(value: object, name: str) -> dict[str, Mapping[str, Any]]:
    """Returns a section of the file that is a table of tables."""
    if not isinstance(value, dict):
        raise SettingsError(f"[{name}] must be a table")
    found = cast("dict[str, Any]", value)
    return {key: section_table(found, key) for key in found}


def check_known(found: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Refuses keys that nobody knows, and names the nearest."""
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            hint = f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(known)}"
            raise SettingsError(f"unknown {what}: `{key}`{hint}")


def _boolean(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text not in _TRUE | _FALSE:
        raise SettingsError(f"{name} must be true or false, not {value!r}")
    return text in _TRUE


def _integer(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return int(value) if isinstance(value, str) else int("")
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {value!r}") from None


def _number(value: object, name: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise SettingsError(f"{name} must be a number, not {value!r}")


def _texts(value: object, name: str) -> tuple[str, ...]:
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text) if text.startswith("[") else text.split(",")
        except ValueError:
            raise SettingsError(f"{name} must be a list, not {text!r}") from None
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    texts = [item.strip() for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise SettingsError(f"{name} must be a list of texts, not {value!r}")
    return tuple(text for text in texts if text)


def from_kubernetes(variable: str, env: Mapping[str, str]) -> bool:
    """Tells whether Kubernetes made a variable, as it does for each of its Services."""
    prefix, found, _ = variable.partition("_SERVICE_")
    if not found:
        prefix, found, _ = variable.partition("_PORT")
    return bool(found) and f"{prefix}_SERVICE_HOST" in env and f"{prefix}_SERVICE_PORT" in env

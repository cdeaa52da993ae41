"""Values of settings: from TOML they are typed already, from the environment they are text."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

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

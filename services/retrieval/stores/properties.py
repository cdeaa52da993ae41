"""How properties are kept, and the keys by which typed ones are compared.

Names are kept so that JSON paths can say them. A text that is an instant, a UUID or the digits of a
whole number has, beside it, a key that orders as what it means does: whether its property is
declared so may change later.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from services.retrieval.records import Json, PropertyType
from services.retrieval.stores.canonical import plain

_UNSAFE = re.compile(r'[%"\\\x00-\x1f]')
_ESCAPED = re.compile(r"%(..)")
_NO_NAME = "%"

_DIGITS = re.compile(r"-?[0-9]{1,19}")
_UUID = re.compile(r"[{}\-0-9a-fA-F]{32,40}|urn:uuid:[-0-9a-fA-F]{32,36}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
KEYED = {PropertyType.INT64: "i", PropertyType.UUID: "u", PropertyType.DATETIME: "t"}
"""Types whose texts have keys, and where those are."""


def kept_name(name: str) -> str:
    """Returns the name as it is kept."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02x}", name) or _NO_NAME


def _name(kept: str) -> str:
    if kept == _NO_NAME:
        return ""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), kept)


def kept_properties(properties: Mapping[str, Json], field: str) -> dict[str, Json]:
    """Returns properties as they are kept. Raises `InvalidArgument` where they can't be."""
    return {
        kept_name(name): plain(value, f"{field}.{name[:64]}") for name, value in properties.items()
    }


def properties_of(kept: Mapping[str, Json]) -> dict[str, Json]:
    """Returns properties that were kept."""
    return {_name(name): value for name, value in kept.items()}


def keys_of(kept: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    """Returns the keys of properties as they are kept: by type and name."""
    keys: dict[str, dict[str, Json]] = {}
    for name, value in kept.items():
        if isinstance(value, str):
            for kind, place in KEYED.items():
                key = key_of(value, kind)
                if key is not None:
                    keys.setdefault(place, {})[name] = key
    return keys


def key_of(text: str, kind: PropertyType) -> int | str | None:
    """Returns the key of a text that is of a type; None where it is not."""
    match kind:
        case PropertyType.INT64:
            number = int(text) if _DIGITS.fullmatch(text) else None
            return number if number is not None and -(2**63) <= number < 2**63 else None
        case PropertyType.UUID:
            return _uuid(text)
        case PropertyType.DATETIME:
            return _instant(text)
        case _:
            return None


def _uuid(text: str) -> str | None:
    if not _UUID.fullmatch(text):
        return None
    try:
        return uuid.UUID(text).hex
    except ValueError:
        return None


def _instant(text: str) -> str | None:
    """Returns it in UTC with six places, which is in order as texts are."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        instant = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds")

"""JSON inside of requests that is passed on as it is, and only looked at."""

from collections.abc import Sequence

import msgspec

from gateway.errors import ProblemError, invalid

DEEPEST_JSON = 64

AnyJson = msgspec.Raw | msgspec.UnsetType
"""Passed on as it is, or ignored: never decoded with the rest."""


def json_object(raw: AnyJson, path: str) -> str:
    """The text of a JSON object that is passed on as it is; empty when it is absent.

    Raises:
        ProblemError: it is no object, has numbers that nothing can hold, or is nested too deeply.
    """
    data = raw_json(raw)
    if not data:
        return ""
    value = load_json(data, path)
    if not isinstance(value, dict):
        raise invalid(f"Invalid type for '{path}': expected an object.", path, "invalid_type")
    return data.decode()


def raw_json(raw: AnyJson) -> bytes:
    """The bytes of a field; empty when it is absent."""
    data = b"" if isinstance(raw, msgspec.UnsetType) else bytes(raw)
    return b"" if data == b"null" else data


def load_json(data: bytes, path: str) -> object:
    """Reads JSON.

    Raises:
        ProblemError: it is none, has numbers that nothing can hold, or is nested too deeply.
    """
    try:
        value: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _bad_json(path) from None
    level: list[object] = [value]
    for _ in range(DEEPEST_JSON):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return value
    raise _bad_json(path)


def _children(value: object) -> Sequence[object]:
    if isinstance(value, dict):
        return list(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return value if isinstance(value, list) else ()  # pyright: ignore[reportUnknownVariableType]


def _bad_json(path: str) -> ProblemError:
    return invalid(
        f"Invalid '{path}': not JSON that can be used (nested over {DEEPEST_JSON} levels, "
        "or a number out of range).",
        path,
    )

"""The subset of JSON Schema that output can be held to.

`plain_schema` checks a schema before anything is made of it: what can't be followed is refused by
its path, never ignored. What is left holds assertions only, in the order in which they came.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NoReturn, cast
from urllib.parse import unquote

from services.inference.engines.grammar_regex import refuse_regex

DEEPEST = 64
MOST_NODES = 5_000
MOST_VALUES = 10_000
MOST_PROPERTIES = 1_000
LARGEST_COUNT = 100_000
LARGEST_NUMBER = 2**53
LARGEST_STEP = 10_000

FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "example", "$comment", "deprecated"}
    | {"readOnly", "writeOnly", "$schema", "$id", "discriminator"}
)
_ONE = frozenset({"items", "additionalProperties"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_COUNTS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_PLAIN_NAME = re.compile(r"[A-Za-z_$][\w$-]*")

Schema = dict[str, Any] | bool


class Refused(Exception):  # noqa: N818 - reads as what happened
    """A form can't be followed: `path` leads from the form's root to the construct at fault."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.path = path


def plain_schema(text: str, *, strict: bool = False) -> Schema:
    """Reads a schema and leaves out what asserts nothing.

    Raises:
        Refused: it is no schema, is too large, or uses what can't be followed.
    """
    return _Reader(_load(text), strict=strict).read()


def step(path: str, key: str | int) -> str:
    """The path of what stands under a key."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if _PLAIN_NAME.fullmatch(key) else f"{path}[{json.dumps(key)}]"


def children(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """The schemas right inside one, with their paths."""
    if isinstance(schema, bool):
        return
    for key, value in schema.items():
        where = step(path, key)
        if key in _ONE:
            yield where, value
        elif key in _LISTS:
            yield from ((step(where, index), item) for index, item in enumerate(value))
        elif key in _MAPS:
            yield from ((step(where, name), item) for name, item in value.items())


def _load(text: str) -> object:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Refused("is not JSON") from None


class _Reader:
    """Walks one schema."""

    def __init__(self, document: object, *, strict: bool) -> None:
        self._document = document
        self._strict = strict
        self._nodes = 0
        self._values = 0

    def read(self) -> Schema:
        return self._schema(self._document, "", 0)

    def _schema(self, value: object, path: str, depth: int) -> Schema:
        self._nodes += 1
        if depth > DEEPEST:
            raise Refused(f"is nested over {DEEPEST} levels", path)
        if self._nodes > MOST_NODES:
            raise Refused(f"holds more than {MOST_NODES} schemas", path)
        if isinstance(value, bool):
            return value
        if not isinstance(value, dict):
            raise Refused("must be a schema: an object, true or false", path)
        given = cast("dict[str, Any]", value)
        plain: dict[str, Any] = {}
        for key, item in given.items():
            if key in _ANNOTATIONS or key.startswith("x-"):
                continue
            plain[key] = self._keyword(key, item, step(path, key), depth)
        if self._strict:
            _close(plain, path)
        _check_bounds(plain, path)
        return plain

    def _keyword(self, key: str, value: Any, path: str, depth: int) -> Any:
        if key in _ONE:
            return self._schema(value, path, depth + 1)
        if key in _LISTS:
            items = _filled_list(value, path, "schemas")
            return [
                self._schema(item, step(path, index), depth + 1) for index, item in enumerate(items)
            ]
        if key in _MAPS:
            return self._map(key, value, path, depth)
        if key in _COUNTS:
            return _count(value, path)
        if key in _NUMBERS or key == "multipleOf":
            return _number(value, path, step_of=key == "multipleOf")
        check = getattr(self, f"_check_{key.lstrip('$').lower()}", None)
        if check is None:
            raise Refused(
                "output can't be held to this keyword; leave it out or say it otherwise", path
            )
        check(value, path)
        return value

    def _map(self, key: str, value: Any, path: str, depth: int) -> dict[str, Schema]:
        if not isinstance(value, dict):
            raise Refused("must be an object of schemas", path)
        schemas = cast("dict[str, Any]", value)
        if len(schemas) > MOST_PROPERTIES:
            raise Refused(f"holds more than {MOST_PROPERTIES} entries", path)
        if key == "patternProperties":
            for pattern in schemas:
                self._check_pattern(pattern, step(path, pattern))
        return {
            name: self._schema(item, step(path, name), depth + 1) for name, item in schemas.items()
        }

    def _check_type(self, value: Any, path: str) -> None:
        names = cast("list[Any]", value if isinstance(value, list) else [value])
        if not names or any(not isinstance(n, str) or n not in _TYPES for n in names):
            raise Refused(f"must be one or more of {', '.join(sorted(_TYPES))}", path)

    def _check_enum(self, value: Any, path: str) -> None:
        self._values += len(_filled_list(value, path, "values"))
        if self._values > MOST_VALUES:
            raise Refused(f"the schema lists more than {MOST_VALUES} values", path)

    def _check_const(self, value: Any, path: str) -> None:
        self._values += 1

    def _check_required(self, value: Any, path: str) -> None:
        names = cast("list[Any]", value) if isinstance(value, list) else [None]
        if len(names) > MOST_PROPERTIES or any(not isinstance(name, str) for name in names):
            raise Refused(f"must be an array of at most {MOST_PROPERTIES} names", path)

    def _check_pattern(self, value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise Refused("must be a regular expression", path)
        if why := refuse_regex(value):
            raise Refused(why, path)

    def _check_format(self, value: Any, path: str) -> None:
        if not isinstance(value, str) or value not in FORMATS:
            raise Refused(
                f"output can't be held to it; known are {', '.join(sorted(FORMATS))}", path
            )

    def _check_ref(self, value: Any, path: str) -> None:
        if not isinstance(value, str) or not value.startswith("#"):
            raise Refused("must point into the same document, as '#/$defs/name' does", path)
        found: Any = self._document
        pointer = unquote(value[1:])
        if pointer and not pointer.startswith("/"):
            raise Refused("must be a pointer such as '#/$defs/name'", path)
        for part in pointer.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and len(part) < 6:
                items = cast("list[Any]", found)
                found = items[int(part)] if int(part) < len(items) else None
            elif isinstance(found, dict):
                found = cast("dict[str, Any]", found).get(part)
            else:
                found = None
        if not isinstance(found, dict | bool):
            raise Refused("points at no schema", path)


def _filled_list(value: Any, path: str, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise Refused(f"must be an array of {what} that is not empty", path)
    return cast("list[Any]", value)


def _count(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise Refused("must be a whole number", path)
    if not 0 <= value <= LARGEST_COUNT:
        raise Refused(f"must be in [0, {LARGEST_COUNT}]", path)
    return int(value)


def _number(value: Any, path: str, *, step_of: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused("must be a number", path)
    if abs(value) > LARGEST_NUMBER:
        raise Refused("must be in [-2^53, 2^53]", path)
    if step_of:
        if value <= 0:
            raise Refused("must be above 0", path)
        _, digits, exponent = Decimal(str(value)).normalize().as_tuple()
        size = int("".join(map(str, digits))) * 10 ** max(int(exponent), 0)
        if size > LARGEST_STEP or int(exponent) < -9:
            raise Refused(f"must be at most {LARGEST_STEP}, with few digits", path)
    return value


def _check_bounds(schema: Mapping[str, Any], path: str) -> None:
    least = schema.get("minProperties", 0)
    # Keys that only `additionalProperties` knows may come twice, and count once.
    if least > max(1, len(schema.get("required", ()))):
        raise Refused(
            "may be at most the number of required properties", step(path, "minProperties")
        )


def _close(schema: dict[str, Any], path: str) -> None:
    """The strict rules: closed objects, all of whose properties are required."""
    kinds = schema.get("type", ())
    if "properties" not in schema and kinds != "object" and "object" not in kinds:
        return
    properties = cast("dict[str, Schema]", schema.setdefault("properties", {}))
    if schema.setdefault("additionalProperties", False) is not False:
        raise Refused("must be false, as 'strict' is true", step(path, "additionalProperties"))
    required = cast("list[str]", schema.setdefault("required", list(properties)))
    missing = next((name for name in properties if name not in required), None)
    if missing is not None:
        raise Refused(
            f"must name every property, as 'strict' is true: '{missing}' is missing (a property "
            'that may be absent can have a type such as ["string", "null"])',
            step(path, "required"),
        )

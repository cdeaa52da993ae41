"""One line of JSON, read strictly."""

import json
import math
import re
from typing import Any, Final

from services.training.examples import places

DEEPEST: Final = 64
"""Levels to which functions' parameters and arguments may be nested, as in chats."""
LONGEST_NUMBER: Final = 4300

_WORDS: Final = {
    "Expecting value": "a value is expected here",
    "Expecting property name enclosed in double quotes": 'a key in double quotes (") is expected here',  # noqa: E501
    "Expecting ':' delimiter": 'a ":" is missing here',
    "Expecting ',' delimiter": 'a "," is missing here, or something wasn\'t closed',
    "Unterminated string starting at": "the string that begins here isn't closed",
    "Invalid control character at": "a control character stands in a string; write it as \\n, \\t "
    "or \\u00XX",
    "Invalid \\escape": "a backslash that escapes nothing; write it twice",
    "Invalid \\uXXXX escape": "\\u needs four hexadecimal digits",
    "Extra data": "the line goes on after its object; write one object a line",
}
_SUSPICIOUS = re.compile(
    rb"\\u(?:0000|[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F])|\\\\u"
)
"""Matches each NUL and each half of a surrogate pair, and `\\\\u`, which may hide them."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_HIGH: Final = range(0xD800, 0xDC00)
_LOW: Final = range(0xDC00, 0xE000)
_HALF: Final = "half of a surrogate pair (\\uD800 to \\uDFFF) stands alone"
_ENCODINGS: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip"}


class Fault(Exception):  # noqa: N818  (reads as what happened)
    """Something is wrong with a line."""

    def __init__(self, message: str, where: places.Where) -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def column(self, line: bytes | None) -> int:
        """Where in the line, in characters from 1."""
        return self.where((line or b"").decode(errors="replace")) + 1


class _RepeatedKey(Exception):  # noqa: N818  (reads as what happened)
    def __init__(self, key: str) -> None:
        self.key = key


class _BadNumber(Exception):  # noqa: N818  (reads as what happened)
    def __init__(self, token: str) -> None:
        self.token = token


def decode(line: bytes) -> Any:
    """Returns the value that a line is.

    Raises:
        Fault: it is not UTF-8, not JSON, or JSON that means different things to different readers.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(line, error.start) from None
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        words = _WORDS.get(error.msg.partition(" (")[0].removesuffix(": "), error.msg)
        raise Fault(f"not JSON: {words}", places.fixed(error.pos)) from None
    except _RepeatedKey as error:
        message = f"the key {quoted(error.key)} is there twice"
        raise Fault(message, places.repeated_key(error.key)) from None
    except _BadNumber as error:
        message = f"{quoted(error.token)} is not a number that JSON has, or one out of range"
        raise Fault(message, places.constant(error.token)) from None
    except RecursionError:
        message = f"nested deeper than {DEEPEST} levels"
        raise Fault(message, places.deeper(DEEPEST)) from None
    except ValueError:  # what `int` says to endless digits
        message = f"a number has more than {LONGEST_NUMBER} digits"
        raise Fault(message, places.number_over(LONGEST_NUMBER)) from None
    if b"\\u" in line and _SUSPICIOUS.search(line):
        _check_characters(text)
    return value


def quoted(text: str) -> str:
    """A word of the file in a message, cut where it is long."""
    cut = text if len(text) <= 64 else text[:61] + "..."
    return json.dumps(cut, ensure_ascii=not _sound(cut))


def nested_too_deeply(value: Any) -> bool:
    """Whether a value is nested deeper than `DEEPEST` levels."""
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        level = [item for parent in level for item in _children(parent)]
        if not level:
            return False
    return True


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]


def _not_utf8(line: bytes, start: int) -> Fault:
    for mark, encoding in _ENCODINGS.items():
        if line.startswith(mark):
            return Fault(f"not UTF-8: this looks like {encoding}", places.fixed(0))
    index = len(line[:start].decode())
    return Fault(
        f"not UTF-8: byte 0x{line[start]:02x}; save the file as UTF-8", places.fixed(index)
    )


def _check_characters(text: str) -> None:
    """Refuses what can be written in JSON and is no text."""
    for token, _, _ in places.walk(text):
        high_end = -1
        high_start = 0
        for escape in _ESCAPE.finditer(token[0]):
            code = int(escape[1] or "1", 16)
            at = token.start() + escape.start()
            if code == 0:
                raise Fault("the character NUL (\\u0000) is no text", places.fixed(at))
            joined = escape.start() == high_end
            if high_end >= 0 and not (joined and code in _LOW):
                raise Fault(_HALF, places.fixed(high_start))
            if code in _LOW and not joined:
                raise Fault(_HALF, places.fixed(at))
            high_end, high_start = (escape.end(), at) if code in _HIGH else (-1, 0)
        if high_end >= 0:
            raise Fault(_HALF, places.fixed(high_start))


def _sound(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        said: set[str] = set()
        for name, _ in pairs:
            if name in said:
                raise _RepeatedKey(name)
            said.add(name)
    return made


def _float(token: str) -> float:
    number = float(token)
    if math.isinf(number):
        raise _BadNumber(token)
    return number


def _constant(token: str) -> Any:
    raise _BadNumber(token)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_float, parse_constant=_constant
)

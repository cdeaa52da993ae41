"""Names, texts and numbers as a query writes them."""

import math
import re

from lark import Token

from services.retrieval.edgeql.faults import fault_at

INT64_MAX = 2**63 - 1
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\"}
_ESCAPE = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<line>\r\n|\n)\s*|(?P<other>[\s\S]))"
)


def name_of(written: str) -> str:
    """Returns the name that stands in back quotes, or plain."""
    if written.startswith("`"):
        return written[1:-1].replace("``", "`")
    return written


def property_of(token: Token) -> str:
    """Returns the property of a path such as `.year`."""
    return name_of(token[1:].lstrip())


def text_of(token: Token) -> str:
    """Returns what a quoted text says. Raises InvalidArgument for escapes that don't exist."""
    if token.startswith("r"):
        text = token[2:-1]
    else:
        text = _ESCAPE.sub(lambda found: _unescaped(token, found), token[1:-1])
    if "\0" in text:
        raise fault_at(token, "U+0000 is not allowed in texts.")
    return text


def number_of(token: Token, sign: int) -> int | float:
    """Returns a number. Raises InvalidArgument for one that 64 bits can't hold."""
    if token.type == "FLOAT":
        value = sign * float(token)
        if math.isinf(value):
            raise fault_at(token, f"{token} is out of the range of float64.")
        return value
    digits = token.replace("_", "")
    if len(digits) > 19 or not -INT64_MAX - 1 <= (number := sign * int(digits)) <= INT64_MAX:
        raise fault_at(token, "The number is out of the range of int64.")
    return number


def _unescaped(token: Token, found: re.Match[str]) -> str:
    if found["line"]:
        return ""
    if found["other"] is not None:
        if (known := _ESCAPES.get(found["other"])) is not None:
            return known
        raise fault_at(
            token,
            f"`{found[0]}` is not an escape sequence; a backslash is written `\\\\`, "
            "or the text r'…'.",
        )
    code = int(found["x"] or found["u"] or found["U"], 16)
    if code > (0x7F if found["x"] else 0x10FFFF) or 0xD800 <= code <= 0xDFFF:
        raise fault_at(token, f"`{found[0]}` is not a character.")
    return chr(code)

"""Where in a line of JSON something stands.

A walk over the tokens of a text that need not be good JSON, without recursion; up to where it is
good, the walk is right.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value."""
Where = Callable[[str], int]
"""Finds something in the text of a line: its index."""

_TOKEN = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\],:]|[^ \t\r\n"{}\[\],:]+', re.DOTALL | re.ASCII
)


def walk(text: str) -> Iterator[tuple[re.Match[str], Sequence[str | int], bool]]:
    """Yields the first token of each value and each key, the path to it (valid until the next
    is asked for), and whether it is a key."""
    path: list[str | int] = []
    within: list[str] = []
    key_next = False
    for token in _TOKEN.finditer(text):
        match text[token.start()]:
            case "{" | "[" as bracket:
                yield token, path, False
                within.append(bracket)
                path.append("" if bracket == "{" else 0)
                key_next = bracket == "{"
            case "}" | "]":
                if within:
                    within.pop()
                    path.pop()
                key_next = False
            case ",":
                key_next = bool(within) and within[-1] == "{"
                last = path[-1] if path else ""
                if isinstance(last, int):
                    path[-1] = last + 1
            case ":":
                key_next = False
            case _ if key_next and within:
                path[-1] = string(token[0])
                yield token, path, True
            case _:
                yield token, path, False


def string(token: str) -> str:
    """The text of a token that should be a string."""
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token.strip('"')


def fixed(index: int) -> Where:
    """A place that is known."""
    return lambda _: index


def value(*path: str | int) -> Where:
    """Where a value begins, or the innermost that holds it where it isn't there."""
    return lambda text: _find(text, path, is_key=False)


def key(*path: str | int) -> Where:
    """Where the last key of a path begins."""
    return lambda text: _find(text, path, is_key=True)


def _find(text: str, path: Path, *, is_key: bool) -> int:
    wanted = list(path)
    holder, depth = 0, -1
    for token, at, key_here in walk(text):
        if at == wanted and key_here is is_key:
            return token.start()
        if not key_here and depth < len(at) < len(wanted) and wanted[: len(at)] == at:
            holder, depth = token.start(), len(at)
    return holder


def repeated_key(name: str) -> Where:
    """Where an object says a key for the second time."""

    def where(text: str) -> int:
        said: list[set[str]] = []
        for token, path, is_key in walk(text):
            if is_key:
                del said[len(path) :]
                said.extend(set[str]() for _ in range(len(path) - len(said)))
                if path[-1] == name and name in said[-1]:
                    return token.start()
                said[-1].add(str(path[-1]))
            else:
                # Another object may begin here, at the depth of one that has ended.
                del said[len(path) :]
        return 0

    return where


def constant(name: str) -> Where:
    """Where a bare word stands."""
    return lambda text: next((token.start() for token, _, _ in walk(text) if token[0] == name), 0)


def number_over(digits: int) -> Where:
    """Where a number with more digits than that stands."""

    def where(text: str) -> int:
        for token, _, is_key in walk(text):
            if not is_key and text[token.start()] not in '"{[' and len(token[0]) > digits:
                return token.start()
        return 0

    return where


def deeper(levels: int) -> Where:
    """Where the nesting is first deeper than that."""
    return lambda text: next((token.start() for token, at, _ in walk(text) if len(at) >= levels), 0)


def depth(text: str) -> int:
    """How deep the nesting is."""
    return max((len(at) + (text[token.start()] in "{[") for token, at, _ in walk(text)), default=0)

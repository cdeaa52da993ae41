"""Reads GBNF text into a tree."""

import re
from dataclasses import dataclass

from services.inference.engines.grammar_schema import Refused

_DEEPEST = 64
_MOST_RULES = 2_000
_LARGEST_COUNT = 10_000

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_COUNT = re.compile(r"\{\s*(\d{1,9})\s*(,\s*(\d{1,9})?\s*)?\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class Letters:
    """Text or a class of characters, as a regular expression."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What another rule says."""

    name: str


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of them."""

    branches: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """Several times; `most` None is without end."""

    node: "Node"
    least: int
    most: int | None

    @property
    def suffix(self) -> str:
        """The repetition as an operator."""
        match self.least, self.most:
            case 0, None:
                return "*"
            case 1, None:
                return "+"
            case 0, 1:
                return "?"
            case least, most:
                return f"{{{least},{'' if most is None else most}}}"


Node = Letters | Reference | Series | Alternatives | Repeat


def read_gbnf(text: str) -> dict[str, Node]:
    """The rules of a grammar, by name.

    Raises:
        Refused: it is broken; the message names the line.
    """
    return _Reader(text).rules()


def _escaped(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\x{{{code:X}}}"


class _Reader:
    """Reads from a position on; every method leaves it behind what it read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, Node]:
        rules: dict[str, Node] = {}
        self._skip(_BLANK_LINES)
        while self._at < len(self._text):
            name = self._name()
            if name in rules:
                raise self._fault(f"rule '{name}' is there twice")
            if len(rules) >= _MOST_RULES:
                raise self._fault(f"there are more than {_MOST_RULES} rules")
            self._skip(_BLANK)
            if not self._take("::="):
                raise self._fault(f"'::=' is expected after '{name}'")
            self._skip(_BLANK_LINES)
            rules[name] = self._alternatives(nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._fault(f"'{self._text[self._at]}' is unexpected here")
            self._skip(_BLANK_LINES)
        return rules

    def _alternatives(self, *, nested: bool) -> Node:
        branches = [self._series(nested=nested)]
        while True:
            here = self._at
            self._skip(_BLANK_LINES)
            if not self._take("|"):
                if not nested:
                    self._at = here
                break
            self._skip(_BLANK_LINES)
            branches.append(self._series(nested=nested))
        return branches[0] if len(branches) == 1 else Alternatives(tuple(branches))

    def _series(self, *, nested: bool) -> Node:
        parts: list[Node] = []
        while (part := self._part()) is not None:
            self._skip(_BLANK_LINES if nested else _BLANK)
            if (count := self._count()) is not None:
                part = Repeat(part, *count)
                self._skip(_BLANK_LINES if nested else _BLANK)
                if self._count() is not None:
                    raise self._fault("two repetitions follow each other: put the first in ()")
            parts.append(part)
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _part(self) -> Node | None:
        if self._take('"'):
            return self._literal()
        if self._take("["):
            return self._class()
        if self._take("("):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._fault(f"groups are nested over {_DEEPEST} levels")
            self._skip(_BLANK_LINES)
            node = self._alternatives(nested=True)
            if not self._take(")"):
                raise self._fault("')' is missing")
            self._depth -= 1
            return node
        if self._take("."):
            return Letters("(?s:.)")
        if _NAME.match(self._text, self._at):
            return Reference(self._name())
        return None

    def _literal(self) -> Node:
        pattern = ""
        while not self._take('"'):
            pattern += _escaped(self._character())
        return Letters(pattern) if pattern else Series(())

    def _class(self) -> Node:
        pattern = "[^" if self._take("^") else "["
        empty = True
        while not self._take("]"):
            first = self._character()
            pattern += _escaped(first)
            empty = False
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                last = self._character()
                if last < first:
                    raise self._fault("a range of characters goes backwards")
                pattern += f"-{_escaped(last)}"
        if empty:
            raise self._fault("a class of characters is empty")
        return Letters(pattern + "]")

    def _character(self) -> int:
        """The code of the next character of a text or class, escaped or not."""
        if self._at >= len(self._text) or self._text[self._at] in "\r\n":
            raise self._fault("a text or class of characters is not closed")
        character = self._text[self._at]
        self._at += 1
        if character != "\\":
            return self._checked(ord(character))
        escape = self._text[self._at : self._at + 1]
        self._at += 1
        if escape in _ESCAPES:
            return ord(_ESCAPES[escape])
        digits = self._text[self._at : self._at + _HEX.get(escape, 0)]
        if escape not in _HEX or not re.fullmatch(rf"[0-9A-Fa-f]{{{_HEX[escape]}}}", digits):
            raise self._fault("a backslash is followed by what is no escape")
        self._at += len(digits)
        return self._checked(int(digits, 16))

    def _checked(self, code: int) -> int:
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self._fault(f"U+{code:04X} is no character")
        return code

    def _count(self) -> tuple[int, int | None] | None:
        for operator, count in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(operator):
                return count
        found = _COUNT.match(self._text, self._at)
        if found is None:
            return None
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > _LARGEST_COUNT or (most is not None and most < least):
            raise self._fault(f"a repetition must rise, to at most {_LARGEST_COUNT}")
        self._at = found.end()
        return least, most

    def _name(self) -> str:
        found = _NAME.match(self._text, self._at)
        if found is None:
            raise self._fault("a rule's name is expected")
        self._at = found.end()
        return found[0]

    def _take(self, expected: str) -> bool:
        if not self._text.startswith(expected, self._at):
            return False
        self._at += len(expected)
        return True

    def _skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self._text, self._at)
        if found is not None:
            self._at = found.end()

    def _fault(self, why: str) -> Refused:
        line = self._text.count("\n", 0, self._at) + 1
        return Refused(f"line {line}: {why}")

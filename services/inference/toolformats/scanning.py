"""Reading the beginning of text that is still growing."""

import json
from typing import Any, cast

BLANK_LIMIT = 256
"""Most blanks before a call that are dropped with it; more are text."""
HEAD_LIMIT = 1024
"""Characters within which a call's name must have been told and its arguments begin."""
WHOLE_LIMIT = 65_536
"""Longest call that is read when it is complete, because its parts come in another order."""
_BLANKS = " \t\r\n"


class JsonEnd:
    """Finds where a JSON object ends, without judging what it holds."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    @property
    def in_string(self) -> bool:
        """Whether what was fed ends inside a string."""
        return self._in_string

    def feed(self, text: str) -> int:
        """Returns the index after the character that closes the value, or -1 while it is open."""
        for position, character in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                if self._depth == 0:
                    return position
                self._depth -= 1
                if self._depth == 0:
                    return position + 1
        return -1


class TextEndsError(Exception):
    """The text ends where more of it could still fit."""


class DiffersError(Exception):
    """The text is not what was looked for, whatever follows."""


class Scan:
    """Reads text from its beginning. Its verdict on a text holds for all that continue it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0
        """Where the unread text begins."""

    def blanks(self) -> None:
        """Reads blanks, if any."""
        while self._text[self.at : self.at + 1] in _BLANKS:
            if self.at == len(self._text):
                raise TextEndsError
            self.at += 1

    def one_of(self, *wanted: str) -> str:
        """Reads one of these texts, of which none begins another."""
        for text in wanted:
            if self._text.startswith(text, self.at):
                self.at += len(text)
                return text
        rest = self._text[self.at :]
        if any(text.startswith(rest) for text in wanted):
            raise TextEndsError
        raise DiffersError

    def word(self) -> None:
        """Reads letters, digits, `_` and `-`."""
        start = self.at
        while self.at < len(self._text) and (
            self._text[self.at].isalnum() or self._text[self.at] in "_-"
        ):
            self.at += 1
        if self.at == len(self._text):
            raise TextEndsError
        if self.at == start:
            raise DiffersError

    def members(self, *wanted: str) -> None:
        """Reads these texts with blanks between them and behind."""
        for text in wanted:
            self.one_of(text)
            self.blanks()

    def call(self, names: frozenset[str]) -> str:
        """Reads `{"name": …, "arguments":` up to the brace of the arguments; returns the name.

        `parameters` will do for `arguments`, and `"type": "function"` may come first.
        """
        self.members("{")
        if self.one_of('"name"', '"type"') == '"type"':
            self.blanks()
            self.members(":", '"function"', ",", '"name"')
        self.blanks()
        self.members(":")
        self.one_of('"')
        name = self.one_of(*(f'{name}"' for name in names))[:-1]
        self.blanks()
        self.members(",")
        self.one_of('"arguments"', '"parameters"')
        self.blanks()
        self.members(":")
        self.one_of("{")
        self.at -= 1
        return name


def without_blanks(text: str) -> str:
    """The text without the blanks at its end; of more than `BLANK_LIMIT`, the first stay."""
    start = max(0, len(text) - BLANK_LIMIT)
    return text[:start] + text[start:].rstrip()


def read_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of a complete call, in whatever order; None if it is none."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    name = fields.get("name")
    arguments = fields.get("arguments", fields.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)

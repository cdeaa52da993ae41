"""Tool calls that models write into their text, parsed while they stream.

A `ToolFormat` knows one family's way of writing; a parser is its state for one choice. New
families add a format to `FORMATS`.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from services.inference.stops import partial_length


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call begins."""

    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """Piece of the JSON text of the call's arguments."""

    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The call is complete."""


Piece = str | CallStart | CallArguments | CallEnd
"""What a parser makes of text: plain text, or parts of calls."""


class ToolParser(Protocol):
    """Splits one choice's text into plain text and calls. The split is the same however the text
    is cut; what can't be read as a call comes out as the plain text it is."""

    @property
    def held_length(self) -> int:
        """Characters taken whose meaning is still open."""
        ...

    def feed(self, text: str) -> Sequence[Piece]:
        """Takes more text and returns what became certain."""
        ...

    def flush(self) -> Sequence[Piece]:
        """Ends the text and returns what was still open."""
        ...


class ToolFormat(Protocol):
    """One family's way of writing calls."""

    def writes(self, chat_template: str) -> bool:
        """Whether models with this template write calls so."""
        ...

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A parser for these tools; with `forced`, its text starts after `opening(forced)`."""
        ...

    def opening(self, name: str) -> str:
        """Text that makes the model go on with the arguments of a call of `name`."""
        ...


class JsonEnd:
    """Finds where a JSON object ends, without judging what it holds."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

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


_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*"([a-zA-Z0-9_.-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_HEAD_LIMIT = 1024


class _Hermes:
    """Walks through text, a call's head (up to its arguments), arguments, tail, and again."""

    def __init__(self, names: frozenset[str], forced: str) -> None:
        self._names = names
        self._forced = forced
        self._buffer = ""
        self._gap = ""
        self._json = JsonEnd()
        self._after_call = False
        self._step = self._open_forced if forced else self._text

    @property
    def held_length(self) -> int:
        return len(self._buffer)

    def feed(self, text: str) -> list[Piece]:
        self._buffer += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        pieces: list[Piece] = []
        rest, self._buffer = self._buffer, ""
        if self._step == self._text:
            self._plain(rest, pieces)
        elif self._step == self._head:
            self._whole(rest, "", pieces)
        elif self._step == self._arguments and rest:
            pieces.append(CallArguments(rest))
        elif self._step == self._open_forced:
            pieces.append(CallStart(self._forced))
        return pieces

    def _text(self, pieces: list[Piece]) -> bool:
        """Passes plain text, without the blanks around calls, up to the next opening tag."""
        position = self._buffer.find(_OPEN)
        if position >= 0:
            before = self._buffer[:position].rstrip()
            self._gap = self._buffer[len(before) : position]
            self._plain(before, pieces)
            self._buffer = self._buffer[position + len(_OPEN) :]
            self._step = self._head
            return True
        held = partial_length(self._buffer, _OPEN)
        certain = self._buffer[: len(self._buffer) - held].rstrip()
        self._plain(certain, pieces)
        self._buffer = self._buffer[len(certain) :]
        return False

    def _plain(self, text: str, pieces: list[Piece]) -> None:
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            pieces.append(text)

    def _head(self, pieces: list[Piece]) -> bool:
        """Waits for name and arguments in the usual order, or else for the whole call."""
        inside = self._buffer.lstrip()
        if inside and inside[0] != "{":
            self._plain(self._gap + _OPEN, pieces)
            self._step = self._text
            return True
        head = _HEAD.match(self._buffer, 0, _HEAD_LIMIT)
        if head is not None and head[1] in self._names:
            pieces.append(CallStart(head[1]))
            self._buffer = self._buffer[head.end() :]
            self._json = JsonEnd()
            self._step = self._arguments
            return True
        close = self._buffer.find(_CLOSE)
        if close < 0:
            return False
        inside = self._buffer[:close]
        self._buffer = self._buffer[close + len(_CLOSE) :]
        self._step = self._text
        self._whole(inside, _CLOSE, pieces)
        return True

    def _whole(self, inside: str, close: str, pieces: list[Piece]) -> None:
        """Reads a call whose parts came in another order; what isn't one stays text."""
        call = _read_call(inside)
        if call is None or call[0] not in self._names:
            self._plain(self._gap + _OPEN + inside + close, pieces)
            return
        pieces += (CallStart(call[0]), CallArguments(call[1]), CallEnd())
        self._after_call = True

    def _open_forced(self, pieces: list[Piece]) -> bool:
        """Drops blanks between the opening, which the prompt holds, and the arguments."""
        self._buffer = self._buffer.lstrip()
        if not self._buffer:
            return False
        pieces.append(CallStart(self._forced))
        self._step = self._arguments
        return True

    def _arguments(self, pieces: list[Piece]) -> bool:
        """Passes arguments as they come, until their object closes or the call is broken off."""
        close = self._buffer.find(_CLOSE)
        upto = close
        if close < 0:
            upto = len(self._buffer) - partial_length(self._buffer, _CLOSE)
        end = self._json.feed(self._buffer[:upto])
        cut = end if end >= 0 else upto
        if cut:
            pieces.append(CallArguments(self._buffer[:cut]))
        self._buffer = self._buffer[cut:]
        if end < 0 and close < 0:
            return False
        pieces.append(CallEnd())
        self._step = self._tail
        return True

    def _tail(self, pieces: list[Piece]) -> bool:
        """Drops what follows the arguments inside the call."""
        close = self._buffer.find(_CLOSE)
        if close < 0:
            held = partial_length(self._buffer, _CLOSE)
            self._buffer = self._buffer[len(self._buffer) - held :]
            return False
        self._buffer = self._buffer[close + len(_CLOSE) :]
        self._step = self._text
        self._after_call = True
        return True


def _read_call(text: str) -> tuple[str, str] | None:
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


class HermesFormat:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen, the starter."""

    def writes(self, chat_template: str) -> bool:
        """Whether the template asks for these tags."""
        return _OPEN in chat_template

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A fresh parser."""
        return _Hermes(names, forced)

    def opening(self, name: str) -> str:
        """Ends before the blank that tokenizers join to the brace that follows."""
        return f'{_OPEN}\n{{"name": "{name}", "arguments":'


FORMATS: tuple[ToolFormat, ...] = (HermesFormat(),)


def tool_format(chat_template: str) -> ToolFormat | None:
    """The format of models with this template; None when they can't call tools."""
    if "tools" not in chat_template:
        return None
    return next((known for known in FORMATS if known.writes(chat_template)), None)

"""`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen, the starter."""

import re

from services.inference.stops import partial_length
from services.inference.toolformats.port import (
    CallArguments,
    CallEnd,
    CallStart,
    Piece,
    ToolParser,
)
from services.inference.toolformats.scanning import HEAD_LIMIT, WHOLE_LIMIT, read_call
from services.inference.toolformats.walker import Walker

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*"([a-zA-Z0-9_.-]{1,64})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)


class _Hermes(Walker):
    def __init__(self, names: frozenset[str], forced: str) -> None:
        super().__init__(names, forced, _OPEN)

    def _end(self, pieces: list[Piece]) -> None:
        if self._step == self._head:
            self._whole(self._buffer, "", pieces)
        elif self._step == self._text:
            super()._end(pieces)

    def _head(self, pieces: list[Piece]) -> bool:
        """Waits for name and arguments in the usual order, or else for the whole call."""
        inside = self._buffer[:HEAD_LIMIT].lstrip()
        if inside and inside[0] != "{":
            return self._no_call(pieces)
        head = _HEAD.match(self._buffer, 0, HEAD_LIMIT)
        if head is not None and head[1] in self._names:
            return self._begin(head[1], head.end(), pieces)
        close = self._buffer.find(_CLOSE, 0, WHOLE_LIMIT)
        if close < 0:
            return len(self._buffer) >= WHOLE_LIMIT and self._no_call(pieces)
        inside = self._buffer[:close]
        self._buffer = self._buffer[close + len(_CLOSE) :]
        self._step = self._text
        self._whole(inside, _CLOSE, pieces)
        return True

    def _whole(self, inside: str, close: str, pieces: list[Piece]) -> None:
        """Reads a call whose parts came in another order; what isn't one stays text."""
        call = read_call(inside)
        if call is None or call[0] not in self._names:
            self._plain(self._opened + inside + close, pieces)
        else:
            pieces += (CallStart(call[0]), CallArguments(call[1]), CallEnd())
            self._after_call = True
        self._opened = ""

    def _arguments(self, pieces: list[Piece]) -> bool:
        """Passes arguments as they come, until their object closes or the call is broken off."""
        close = self._buffer.find(_CLOSE)
        upto = close
        if close < 0:
            upto = len(self._buffer) - partial_length(self._buffer, _CLOSE)
        end = self._json.feed(self._buffer[:upto])
        if end < 0 <= close and self._json.in_string:
            # The tag is part of an argument.
            upto = close + len(_CLOSE)
            self._json.feed(_CLOSE)
            self._pass_arguments(upto, over=False, pieces=pieces)
            return True
        over = end >= 0 or close >= 0
        return self._pass_arguments(end if end >= 0 else upto, over, pieces)

    def _tail(self, pieces: list[Piece]) -> bool:
        """Drops what follows the arguments inside the call."""
        close = self._buffer.find(_CLOSE)
        if close < 0:
            held = partial_length(self._buffer, _CLOSE)
            self._buffer = self._buffer[len(self._buffer) - held :]
            return False
        self._buffer = self._buffer[close + len(_CLOSE) :]
        self._step = self._text
        return True


class HermesFormat:
    """Calls between tags."""

    markers = frozenset({_OPEN, _CLOSE})
    separator = "\n"
    one_call_per_turn = False

    def writes(self, chat_template: str) -> bool:
        """Whether the template asks for these tags."""
        return _OPEN in chat_template

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A fresh parser."""
        return _Hermes(names, forced)

    def opening(self, name: str) -> str:
        """Ends before the blank that tokenizers join to the brace that follows."""
        return f'{_OPEN}\n{{"name": "{name}", "arguments":'

    def frame(self, name: str) -> tuple[str, str]:
        """The opening with its blank, and the closing tag."""
        return self.opening(name) + " ", f"}}\n{_CLOSE}"

    def identifier(self, id: str) -> str:
        """As it is."""
        return id

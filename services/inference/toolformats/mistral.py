"""`[TOOL_CALLS]` before a list of calls, or before each `name[ARGS]{…}`: Mistral."""

import hashlib
from string import ascii_lowercase, ascii_uppercase, digits

from services.inference.toolformats.port import (
    CallArguments,
    CallEnd,
    CallStart,
    Piece,
    ToolParser,
)
from services.inference.toolformats.scanning import (
    HEAD_LIMIT,
    WHOLE_LIMIT,
    JsonEnd,
    Scan,
    read_call,
)
from services.inference.toolformats.walker import Walker

_MARK = "[TOOL_CALLS]"
_ARGS = "[ARGS]"
_CALL_ID = "[CALL_ID]"
_ALPHABET = digits + ascii_uppercase + ascii_lowercase
_ID_LENGTH = 9


class _Mistral(Walker):
    """Reads both ways of writing; `listed` says in which a forced call was opened."""

    def __init__(self, names: frozenset[str], forced: str, *, listed: bool) -> None:
        super().__init__(names, forced, _MARK)
        self._listed = listed
        self._seen = 0

    def _end(self, pieces: list[Piece]) -> None:
        left_over = self._step == self._element and (self._opened + self._buffer).strip() == ","
        if not left_over and self._step not in (self._tail, self._fields, self._next):
            super()._end(pieces)

    def _head(self, pieces: list[Piece]) -> bool:
        """Finds out in which way the calls after the mark are written."""
        blanks = _leading_blanks(self._buffer)
        if self._buffer.startswith("[", blanks):
            self._listed = True
            self._take(blanks + 1)
            self._step = self._element
            return True
        self._listed = False
        return self._try(self._named, self._no_call, pieces)

    def _named(self, scan: Scan) -> str:
        scan.blanks()
        marks = (_ARGS, _CALL_ID, "{")
        found = scan.one_of(*(name + mark for name in self._names for mark in marks))
        if found.endswith(_CALL_ID):
            scan.word()
            scan.one_of(_ARGS)
        elif found.endswith("{"):
            scan.at -= 1
            return found[:-1]
        scan.blanks()
        scan.one_of("{")
        scan.at -= 1
        return found.removesuffix(_ARGS).removesuffix(_CALL_ID)

    def _element(self, pieces: list[Piece]) -> bool:
        """Reads a call of the list up to its arguments, or else takes it as a whole."""

        def read(scan: Scan) -> str:
            scan.blanks()
            return scan.call(self._names)

        return self._try(read, self._unusual, pieces)

    def _unusual(self, pieces: list[Piece]) -> bool:
        blanks = _leading_blanks(self._buffer)
        if not self._buffer.startswith("{", blanks):
            return self._no_call(pieces)
        self._take(blanks)
        self._json, self._seen = JsonEnd(), 0
        self._step = self._gather
        return True

    def _gather(self, pieces: list[Piece]) -> bool:
        """Reads a call whose parts came in another order; what isn't one stays text."""
        scanned = self._buffer[self._seen : WHOLE_LIMIT]
        end = self._json.feed(scanned)
        self._seen, start = self._seen + len(scanned), self._seen
        if end < 0:
            return self._seen >= WHOLE_LIMIT and self._no_call(pieces)
        call = read_call(self._buffer[: start + end])
        if call is None or call[0] not in self._names:
            return self._no_call(pieces)
        self._buffer = self._buffer[start + end :]
        self._opened = ""
        pieces += (CallStart(call[0]), CallArguments(call[1]), CallEnd())
        self._after_call = True
        self._step = self._next
        return True

    def _tail(self, pieces: list[Piece]) -> bool:
        """Drops what follows the arguments inside a call of the list."""
        if not self._listed:
            self._step = self._text
            return True
        return self._close_object(self._next)

    def _next(self, pieces: list[Piece]) -> bool:
        """Finds the list's next call or its end."""
        self._buffer = self._buffer.lstrip()
        if not self._buffer:
            return False
        if self._buffer[0] == ",":
            self._take(1)
            self._step = self._element
        else:
            self._buffer = self._buffer.removeprefix("]")
            self._step = self._text
        return True

    def _take(self, count: int) -> None:
        self._opened += self._buffer[:count]
        self._buffer = self._buffer[count:]


def _leading_blanks(text: str) -> int:
    """How many blanks come first; all of `HEAD_LIMIT` where it is only blanks so far."""
    within = text[: HEAD_LIMIT - 1]
    return len(within) - len(within.lstrip(" \t\r\n"))


class MistralFormat:
    """Calls after a mark. `lead` is what opens them: the mark alone writes each call with its
    arguments after `[ARGS]`; one that ends in a bracket writes them as a list."""

    markers = frozenset({_MARK, _ARGS, _CALL_ID})
    separator = ""
    one_call_per_turn = False

    def __init__(self, lead: str = _MARK, sign: str = "") -> None:
        self._lead = lead
        self._sign = sign or lead
        self._listed = lead.endswith("[")

    def writes(self, chat_template: str) -> bool:
        """Whether the template writes them so."""
        return _MARK in chat_template and self._sign in chat_template

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A fresh parser."""
        return _Mistral(names, forced, listed=self._listed)

    def opening(self, name: str) -> str:
        """Ends before the blank that tokenizers join to the brace that follows."""
        if self._listed:
            return f'{self._lead}{{"name": "{name}", "arguments":'
        return f"{self._lead}{name}{_ARGS}"

    def frame(self, name: str) -> tuple[str, str]:
        """Each call as a list of its own, where they come in lists."""
        return (self.opening(name) + " ", "}]") if self._listed else (self.opening(name), "")

    def identifier(self, id: str) -> str:
        """Templates refuse all but nine letters and digits: others become a digest of so many."""
        if len(id) == _ID_LENGTH and id.isascii() and id.isalnum():
            return id
        number = int.from_bytes(hashlib.sha256(id.encode(errors="replace")).digest())
        return "".join(_ALPHABET[number // 62**place % 62] for place in range(_ID_LENGTH))


MISTRAL_FORMATS = (
    MistralFormat(sign=_ARGS),
    MistralFormat(f"{_MARK} ["),
    MistralFormat(f"{_MARK}[", sign=_MARK),
)
"""Newer before older: the first that a template writes counts."""

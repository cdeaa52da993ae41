"""What the parsers of all formats share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from services.inference.stops import partial_length
from services.inference.toolformats.port import CallArguments, CallEnd, CallStart, Piece
from services.inference.toolformats.scanning import (
    HEAD_LIMIT,
    DiffersError,
    JsonEnd,
    Scan,
    TextEndsError,
    without_blanks,
)

Step = Callable[[list[Piece]], bool]
"""Does what the buffered text allows. Returns whether the next step may go on with the rest."""


class Walker(ABC):
    """Walks through text, a call's head (up to its arguments), arguments, tail, and again.

    Formats say what marks a call, and add the steps for its head and its tail.
    """

    def __init__(self, names: frozenset[str], forced: str, marker: str) -> None:
        self._names = names
        self._forced = forced
        self._marker = marker
        self._buffer = ""
        self._opened = ""
        """Text already taken from the buffer that is text again unless a call follows."""
        self._json = JsonEnd()
        self._after_call = False
        self._step: Step = self._open_forced if forced else self._text
        self._then: Step = self._text
        """Follows the end of a call's object."""

    @property
    def held_length(self) -> int:
        """Characters taken whose meaning is still open."""
        return len(self._opened) + len(self._buffer)

    def feed(self, text: str) -> Sequence[Piece]:
        """Takes more text and returns what became certain."""
        self._buffer += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self) -> Sequence[Piece]:
        """Ends the text and returns what was still open."""
        pieces: list[Piece] = []
        if self._step == self._arguments:
            if self._buffer:
                pieces.append(CallArguments(self._buffer))
        elif self._step == self._open_forced:
            pieces.append(CallStart(self._forced))
        else:
            self._end(pieces)
        self._buffer = self._opened = ""
        return pieces

    def _end(self, pieces: list[Piece]) -> None:
        """Gives out, at the end of the text, what turned out to be no call."""
        self._plain(self._opened + self._buffer, pieces)

    @abstractmethod
    def _head(self, pieces: list[Piece]) -> bool:
        """Reads what follows the marker."""

    @abstractmethod
    def _tail(self, pieces: list[Piece]) -> bool:
        """Drops what belongs to a call and follows its arguments."""

    def _text(self, pieces: list[Piece]) -> bool:
        """Passes plain text, without the blanks around calls, up to the next marker."""
        position = self._buffer.find(self._marker)
        if position >= 0:
            before = without_blanks(self._buffer[:position])
            self._plain(before, pieces)
            end = position + len(self._marker)
            self._opened = self._buffer[len(before) : end]
            self._buffer = self._buffer[end:]
            self._step = self._head
            return True
        held = partial_length(self._buffer, self._marker)
        certain = without_blanks(self._buffer[: len(self._buffer) - held])
        self._plain(certain, pieces)
        self._buffer = self._buffer[len(certain) :]
        return False

    def _plain(self, text: str, pieces: list[Piece]) -> None:
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            pieces.append(text)

    def _no_call(self, pieces: list[Piece]) -> bool:
        """Goes back to text: what was opened is text too."""
        self._plain(self._opened, pieces)
        self._opened = ""
        self._step = self._text
        return True

    def _begin(self, name: str, taken: int, pieces: list[Piece]) -> bool:
        """Begins a call whose arguments follow after `taken` characters."""
        pieces.append(CallStart(name))
        self._buffer = self._buffer[taken:]
        self._opened = ""
        self._json = JsonEnd()
        self._step = self._arguments
        return True

    def _try(self, read: Callable[[Scan], str], otherwise: Step, pieces: list[Piece]) -> bool:
        """Begins a call where `read` finds the head of one; waits while it still may."""
        scan = Scan(self._buffer[:HEAD_LIMIT])
        try:
            name = read(scan)
        except TextEndsError:
            if len(self._buffer) < HEAD_LIMIT:
                return False
        except DiffersError:
            pass
        else:
            return self._begin(name, scan.at, pieces)
        return otherwise(pieces)

    def _open_forced(self, pieces: list[Piece]) -> bool:
        """Drops blanks between the opening, which the prompt holds, and the arguments."""
        self._buffer = self._buffer.lstrip()
        return bool(self._buffer) and self._begin(self._forced, 0, pieces)

    def _arguments(self, pieces: list[Piece]) -> bool:
        """Passes arguments as they come, until their object closes."""
        end = self._json.feed(self._buffer)
        return self._pass_arguments(end if end >= 0 else len(self._buffer), end >= 0, pieces)

    def _pass_arguments(self, cut: int, over: bool, pieces: list[Piece]) -> bool:
        if cut:
            pieces.append(CallArguments(self._buffer[:cut]))
        self._buffer = self._buffer[cut:]
        if over:
            pieces.append(CallEnd())
            self._after_call = True
            self._step = self._tail
        return over

    def _close_object(self, then: Step) -> bool:
        """Drops the brace that closes a call's object, and fields before it."""
        self._buffer = self._buffer.lstrip()
        if not self._buffer:
            return False
        self._then = then
        if self._buffer[0] == ",":
            self._json = JsonEnd(1)
            self._step = self._fields
        else:
            self._buffer = self._buffer.removeprefix("}")
            self._step = then
        return True

    def _fields(self, pieces: list[Piece]) -> bool:
        end = self._json.feed(self._buffer)
        self._buffer = self._buffer[end:] if end >= 0 else ""
        if end >= 0:
            self._step = self._then
        return end >= 0

"""What a format of tool calls is, and what its parser makes of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


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

    @property
    def markers(self) -> frozenset[str]:
        """Texts that the parser must see even where they are special tokens."""
        ...

    @property
    def separator(self) -> str:
        """Text between two calls of one answer."""
        ...

    @property
    def one_call_per_turn(self) -> bool:
        """Whether the family's templates take no turn with several calls."""
        ...

    def writes(self, chat_template: str) -> bool:
        """Whether models with this template write calls so."""
        ...

    def parser(self, names: frozenset[str], forced: str = "") -> ToolParser:
        """A parser for these tools; with `forced`, its text starts after `opening(forced)`."""
        ...

    def opening(self, name: str) -> str:
        """Text that makes the model go on with the arguments of a call of `name`."""
        ...

    def frame(self, name: str) -> tuple[str, str]:
        """Text before and after the arguments object of a call of `name`."""
        ...

    def identifier(self, id: str) -> str:
        """A call's ID as the family's templates take it; equal IDs stay equal."""
        ...

"""Texts with places to fill in: `{name}`; a literal brace is written twice."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.errors import InvalidArgument

_PIECE = re.compile(r"[^{}]+|\{\{|\}\}|\{(\w*)\}|[{}]", re.DOTALL)
_ALL = ("context", "query")


@dataclass(frozen=True, slots=True)
class Template:
    """A text, in pieces."""

    pieces: tuple[tuple[str, str], ...]
    """Literal text, and the name of the value behind it (empty: none)."""

    def fill(self, values: Mapping[str, str]) -> str:
        """Returns the text with these values. Values are put in as they are."""
        return "".join(text + (values[name] if name else "") for text, name in self.pieces)


def parse(text: str, *, names: Collection[str] = _ALL, field: str = "") -> Template:
    """Reads a text in which these names may stand.

    Raises:
        InvalidArgument: a brace stands alone, or around another name.
    """
    pieces: list[tuple[str, str]] = []
    for match in _PIECE.finditer(text):
        piece = match.group()
        if match.group(1) in names:
            pieces.append(("", match.group(1)))
        elif piece in ("{{", "}}"):
            pieces.append((piece[0], ""))
        elif piece.startswith(("{", "}")):
            allowed = " and ".join(f"{{{name}}}" for name in sorted(names))
            raise InvalidArgument(
                f"'{field}': {piece[:40]!r} at character {match.start() + 1} can't be filled in. "
                f"Here {allowed} can; write a literal brace twice.",
                field=field,
            )
        else:
            pieces.append((piece, ""))
    return Template(tuple(pieces))

"""Reads files of examples, line by line, in bounded memory."""

from collections.abc import Iterator
from pathlib import Path

from services.training.examples.formats import Example, Format
from services.training.examples.lines import lines
from services.training.examples.parsing import parse
from services.training.examples.strict_json import Fault


class BadLine(ValueError):  # noqa: N818  (reads as what happened)
    """A line of a file is not an example that is expected there."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column
        self.message = message


def read(path: Path, format: Format) -> Iterator[Example]:
    """Yields the examples of a file, all of one format.

    Raises:
        BadLine: a line is not such an example.
    """
    formats = frozenset({format})
    with path.open("rb") as file:
        for number, line in lines(file):
            try:
                _, example = parse(line, formats)
            except Fault as fault:
                raise BadLine(number, fault.column(line), fault.message) from None
            yield example

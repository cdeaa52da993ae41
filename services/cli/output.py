"""What people and scripts see: rich text on one side, JSON lines on the other."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
STATE_STYLES = {
    "ready": "green",
    "active": "green",
    "loading": "yellow",
    "deploying": "yellow",
    "starting": "yellow",
    "restarting": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "away": "red",
    "unavailable": "red",
    "stopped": "dim",
}


def printable(text: str) -> str:
    """Drops control characters, so that text from elsewhere can't steer the terminal."""
    return "".join(
        mark for mark in text if mark in "\n\t" or (mark.isprintable() or ord(mark) > 0x9F)
    )


def state_text(state: str) -> Text:
    """Returns a state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def to_dict(message: Message) -> dict[str, Any]:
    """Returns a message as JSON-ready data, with the proto's own field names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def new_console(file: IO[str]) -> Console:
    """Returns a console; where nobody looks, lines are long, so that programs find them whole."""
    return Console(file=file, highlight=False, width=None if file.isatty() else PIPE_WIDTH)


def new_table(*columns: str) -> Table:
    """Returns an empty table in the house's look."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@dataclass
class Output:
    """Writes results to stdout and everything said about them to stderr."""

    as_json: bool = False
    out: Console = field(default_factory=lambda: new_console(sys.stdout))
    err: Console = field(default_factory=lambda: new_console(sys.stderr))

    def data(self, value: Any) -> None:
        """Writes one line of JSON."""
        click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """Prints a table."""
        table = new_table(*columns)
        for row in rows:
            table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
        self._print(table)

    def facts(self, facts: Mapping[str, str | Text]) -> None:
        """Prints names and values below each other; empty values are left out."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts.items():
            if value:
                table.add_row(name, value if isinstance(value, Text) else Text(value))
        self._print(table)

    def _print(self, table: Table) -> None:
        if self.out.is_terminal:
            self.out.print(table)
            return
        with self.out.capture() as capture:
            self.out.print(table)
        for line in capture.get().splitlines():  # without the padding at their ends
            click.echo(line.rstrip())

    def say(self, text: str | Text) -> None:
        """Prints a result for people; silent with --json."""
        if not self.as_json:
            self.out.print(text if isinstance(text, Text) else Text(text))

    def note(self, text: str, style: str = "dim") -> None:
        """Prints a remark for people on stderr; silent with --json."""
        if not self.as_json:
            self.err.print(Text(text, style=style))

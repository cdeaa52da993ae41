"""Checks a file of examples: `python -m services.training.examples.check FILE --method supervised`.

Prints one line of JSON, a `Checked`, whatever the file holds. A process of its own, so that a file
costs nobody else anything.
"""

import argparse
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from services.training.examples.formats import FORMATS, Format, Method
from services.training.examples.lines import lines
from services.training.examples.parsing import parse
from services.training.examples.report import Checked
from services.training.examples.strict_json import Fault


def check(file: BinaryIO, formats: frozenset[Format]) -> Checked:
    """Reads a file to its end. The first good line tells which of the formats it has."""
    example_count = bad_line_count = line_number = column = 0
    found: Format | None = None
    message = ""
    for number, line in lines(file):
        try:
            found, _ = parse(line, formats)
        except Fault as fault:
            bad_line_count += 1
            if bad_line_count == 1:
                line_number, column, message = number, fault.column(line), fault.message
            continue
        formats = frozenset({found})
        example_count += 1
    if not example_count and not bad_line_count:
        message = "the file holds no examples: write one JSON object a line"
    return Checked(
        format=found,
        example_count=example_count,
        bad_line_count=bad_line_count,
        line=line_number,
        column=column,
        message=message,
    )


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="check", description="Checks a file of examples.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--method", type=Method, choices=list(Method), default=Method.SUPERVISED)
    parser.add_argument(
        "--format", type=Format, choices=list(Format), help="the only format that is good"
    )
    arguments = parser.parse_args()
    formats = FORMATS[arguments.method]
    if arguments.format is not None:
        formats &= {arguments.format}
    try:
        with arguments.file.open("rb") as file:
            checked = check(file, formats)
    except OSError as error:
        sys.exit(f"The file can't be read: {error.strerror}.")
    sys.stdout.buffer.write(msgspec.json.encode(checked) + b"\n")


if __name__ == "__main__":
    main()

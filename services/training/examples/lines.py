"""Splits a file into lines, in bounded memory."""

from collections.abc import Iterator
from typing import BinaryIO, Final

LONGEST: Final = 16 * 2**20
"""Bytes of a line, without its end."""

_BOM = b"\xef\xbb\xbf"
_AT_ONCE = 2**20


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yields lines that aren't blank, with their numbers from 1; None for one that is too long."""
    number = 0
    while line := file.readline(LONGEST + len(_BOM) + len(b"\r\n")):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        whole = line.endswith(b"\n")
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(line) > LONGEST:
            while not whole and (rest := file.readline(_AT_ONCE)):
                whole = rest.endswith(b"\n")
            yield number, None
        elif line.strip(b" \t\r"):
            yield number, line

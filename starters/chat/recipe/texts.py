"""Reads the text files that the generators draw from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).with_name("data")
Block = tuple[str, tuple[str, ...]]


def listed(text: str) -> tuple[str, ...]:
    """The words of a text, in order."""
    return tuple(text.split())


@cache
def blocks(name: str) -> tuple[Block, ...]:
    """Reads a file of blocks: a line at the margin, and the indented lines under it."""
    found: list[tuple[str, list[str]]] = []
    for line in (_FOLDER / f"{name}.txt").read_text().splitlines():
        if line.startswith("    "):
            found[-1][1].append(line[4:])
        elif line:
            found.append((line, []))
    return tuple((head, tuple(lines)) for head, lines in found)


@cache
def words(name: str) -> dict[str, tuple[str, ...]]:
    """Reads a file of blocks of words, by the name at the head of each block."""
    return {head: tuple(dict.fromkeys(" ".join(lines).split())) for head, lines in blocks(name)}

"""Prepares user names and passwords as SASL wants them (RFC 4013)."""

import stringprep
import unicodedata
from collections.abc import Callable

_PROHIBITED: tuple[Callable[[str], bool], ...] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def saslprep(text: str) -> str:
    """Returns the prepared text.

    Raises:
        ValueError: it holds characters that are not allowed, or mixes directions of writing.
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if any(table(character) for character in prepared for table in _PROHIBITED):
        raise ValueError("characters that SASLprep prohibits")
    if any(stringprep.in_table_d1(character) for character in prepared):
        mixed = any(stringprep.in_table_d2(character) for character in prepared)
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if mixed or not ends:
            raise ValueError("directions of writing that SASLprep prohibits")
    return prepared

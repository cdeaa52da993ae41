"""Byte strings in tensors: the elements of BYTES, each behind its length in four bytes."""

import struct
from collections.abc import Iterable

BYTES = "BYTES"
"""The type of tensors whose elements are byte strings, by Triton's name."""

LENGTH_SIZE = 4
"""Bytes in front of each element."""

_LENGTH = struct.Struct("<I")


def count_elements(data: bytes) -> int | None:
    """Counts the elements. None where the lengths don't add up to the data."""
    at, count, end = 0, 0, len(data)
    while at + LENGTH_SIZE <= end:
        at += LENGTH_SIZE + int.from_bytes(data[at : at + LENGTH_SIZE], "little")
        count += 1
    return count if at == end else None


def elements(data: bytes) -> list[bytes]:
    """Takes the elements of data whose lengths add up."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        begin = at + LENGTH_SIZE
        at = begin + int.from_bytes(data[at:begin], "little")
        found.append(data[begin:at])
    return found


def joined(strings: Iterable[bytes]) -> bytes:
    """Writes elements."""
    return b"".join(_LENGTH.pack(len(one)) + one for one in strings)

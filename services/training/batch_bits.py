"""Which requests of a batch have results: a bit for each."""

from collections.abc import Iterable


def no_bits(count: int) -> bytes:
    """Returns the bits of so many requests, none of which has a result."""
    return bytes((count + 7) // 8)


def has_bit(bits: bytes, number: int) -> bool:
    """Tells whether a request has a result."""
    return bool(bits[number >> 3] >> (number & 7) & 1)


def with_bits(bits: bytes, numbers: Iterable[int]) -> bytes:
    """Returns the bits once some more requests have results."""
    changed = bytearray(bits)
    for number in numbers:
        changed[number >> 3] |= 1 << (number & 7)
    return bytes(changed)

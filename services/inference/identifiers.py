"""Identifiers of answers and tool calls, and the fingerprint of a deployment."""

import hashlib
import secrets
from string import ascii_lowercase, ascii_uppercase, digits

_ALPHABET = digits + ascii_uppercase + ascii_lowercase
_LENGTH = 24
_COUNT = len(_ALPHABET) ** _LENGTH


def unique(prefix: str) -> str:
    """Returns `prefix` and 24 random base62 characters."""
    number = secrets.randbelow(_COUNT)
    characters: list[str] = []
    for _ in range(_LENGTH):
        number, rest = divmod(number, 62)
        characters.append(_ALPHABET[rest])
    return prefix + "".join(characters)


def fingerprint(*parts: str) -> str:
    """Returns `fp_` and 10 hexadecimal digits that identify the parts."""
    return "fp_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]

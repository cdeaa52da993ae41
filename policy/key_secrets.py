"""What keys are made of: their secrets, their IDs, and what is kept of a secret."""

import hashlib
import secrets
import string

PREFIX = "pnstk_"
"""How every secret of ours begins."""

_BASE62 = string.digits + string.ascii_letters
_SECRET_LENGTH = 40
_ID_PREFIX = "key_"
_ID_LENGTH = 12


def make_token() -> str:
    """Returns a new secret: `pnstk_` and 40 base62 characters."""
    return PREFIX + _base62(_SECRET_LENGTH)


def make_id() -> str:
    """Returns a new ID of a key: `key_` and 12 base62 characters."""
    return _ID_PREFIX + _base62(_ID_LENGTH)


def digest(secret: str) -> str:
    """Returns what is kept of a secret: its SHA-256, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _base62(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))

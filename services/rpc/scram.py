"""SCRAM-SHA-256 verifiers of tokens: what the edge checks the users of Gel's clients against."""

import base64
import hashlib
import hmac
import os
import re

_ITERATIONS = 4096
_SALT_BYTES = 16
_USER = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_VERIFIER = re.compile(r"SCRAM-SHA-256\$[0-9]+:(?P<salt>[A-Za-z0-9+/=]+)\$[^:$]+:[^:$]+")


def is_gel_user(name: str) -> bool:
    """Tells whether a text may name a user of Gel: at most 64 letters, digits and `_.@+-`."""
    return _USER.fullmatch(name) is not None


def make_verifier(password: str, like: str = "") -> str:
    """Makes `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as PostgreSQL and Gel write it.

    The password is ASCII. With the verifier of another password of the same user it takes that
    one's salt: clients are told one salt, and then prove either password.
    """
    match = _VERIFIER.fullmatch(like)
    salt = base64.b64decode(match["salt"]) if match else os.urandom(_SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${_ITERATIONS}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

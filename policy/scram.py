"""The server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677): messages and proofs. No I/O.

There is no channel binding: HTTP clients that use it can't see the channel of a proxy.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field

from policy.saslprep import saslprep

ITERATIONS = 4096
"""As many as RFC 7677 asks for at least; tokens are random, not words of people."""

SALT_BYTES = 16

_LONGEST_MESSAGE = 2048
_LONGEST_NONCE = 256
_LONGEST_USER = 256
_GEL_USER = re.compile(r"[A-Za-z0-9_.@+-]{1,64}")
_HASH_BYTES = hashlib.sha256().digest_size
_HEADERS = {"n,,": "biws", "y,,": "eSws"}
_FIRST = re.compile(r"n=(?P<user>[^,]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,]+)*")
_FINAL = re.compile(
    r"(?P<rest>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[!-+\--~]+)(?:,[A-Za-z]=[^,]+)*)"
    r",p=(?P<proof>[A-Za-z0-9+/=]+)"
)
_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[1-9][0-9]{0,8}):(?P<salt>[A-Za-z0-9+/=]+)"
    r"\$(?P<stored_key>[A-Za-z0-9+/=]+):(?P<server_key>[A-Za-z0-9+/=]+)"
)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps of a password."""

    salt: bytes
    iterations: int
    stored_key: bytes = field(repr=False)
    """Hash of the key that a client proves to have."""
    server_key: bytes = field(repr=False)
    """Key that the server proves to have."""


@dataclass(frozen=True, slots=True)
class ClientFirst:
    """The first message of a client."""

    header: str
    """Says that there is no channel binding."""
    bare: str
    """The message without the header."""
    user: str
    """Name of the user, prepared."""
    nonce: str


@dataclass(frozen=True, slots=True)
class ClientFinal:
    """The last message of a client."""

    without_proof: str
    nonce: str
    """The nonces of both sides."""
    proof: bytes = field(repr=False)


def derive(password: str, salt: bytes, iterations: int = ITERATIONS) -> Verifier:
    """Makes the verifier of a password. Takes some milliseconds."""
    with suppress(ValueError):  # as others do: what can't be prepared is taken as it is
        password = saslprep(password)
    data = password.encode("utf-8", "surrogatepass")
    salted = hashlib.pbkdf2_hmac("sha256", data, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return Verifier(salt, iterations, hashlib.sha256(client_key).digest(), server_key)


def parse_verifier(text: str) -> Verifier:
    """Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, as PostgreSQL and Gel write it.

    Raises:
        ValueError: it is none, or has fewer than 4,096 iterations.
    """
    match = _VERIFIER.fullmatch(text)
    if match is None or int(match["iterations"]) < ITERATIONS:
        raise ValueError("not a SCRAM-SHA-256 verifier with at least 4096 iterations")
    keys = [_base64(match[part]) for part in ("stored_key", "server_key")]
    if any(len(key) != _HASH_BYTES for key in keys):
        raise ValueError("keys of a SCRAM-SHA-256 verifier have 32 bytes")
    return Verifier(_base64(match["salt"]), int(match["iterations"]), *keys)


def verifier_text(verifier: Verifier) -> str:
    """Writes a verifier as `parse_verifier` reads it."""
    salt, stored_key, server_key = (
        base64.b64encode(part).decode("ascii")
        for part in (verifier.salt, verifier.stored_key, verifier.server_key)
    )
    return f"SCRAM-SHA-256${verifier.iterations}:{salt}${stored_key}:{server_key}"


def new_verifier(password: str, like: str = "") -> str:
    """Makes the verifier of a new password, as text.

    With the verifier of another password of the same user it takes that one's salt: clients are
    told one salt, and then prove either password.
    """
    salt = parse_verifier(like).salt if like else secrets.token_bytes(SALT_BYTES)
    return verifier_text(derive(password, salt))


def is_gel_user(name: str) -> bool:
    """Tells whether a text may name a user of Gel: at most 64 letters, digits and `_.@+-`."""
    return _GEL_USER.fullmatch(name) is not None


def parse_client_first(data: bytes) -> ClientFirst:
    """Reads the first message of a client.

    Raises:
        ValueError: it is malformed, or asks for what this server doesn't do.
    """
    text = _text(data)
    header, bare = text[:3], text[3:]
    if header not in _HEADERS:
        what = "channel binding" if text.startswith("p=") else "authorization identities"
        raise ValueError(f"malformed, or it wants {what}, which are not supported")
    match = _FIRST.fullmatch(bare)
    if match is None or len(match["nonce"]) > _LONGEST_NONCE or len(match["user"]) > _LONGEST_USER:
        raise ValueError("malformed SCRAM message")
    if re.search(r"=(?!2C|3D)", match["user"]):
        raise ValueError("malformed name of the user")
    user = saslprep(match["user"].replace("=2C", ",").replace("=3D", "="))
    return ClientFirst(header, bare, user, match["nonce"])


def parse_client_final(data: bytes, header: str) -> ClientFinal:
    """Reads the last message of a client whose first one had this header.

    Raises:
        ValueError: it is malformed.
    """
    match = _FINAL.fullmatch(_text(data))
    if match is None:
        raise ValueError("malformed SCRAM message")
    if match["binding"] != _HEADERS[header]:
        raise ValueError("unexpected channel binding")
    proof = _base64(match["proof"])
    if len(proof) != _HASH_BYTES:
        raise ValueError("malformed proof")
    return ClientFinal(match["rest"], match["nonce"], proof)


def new_nonce() -> str:
    """Makes the server's part of a nonce."""
    return base64.b64encode(secrets.token_bytes(18)).decode("ascii")


def server_first(nonce: str, salt: bytes, iterations: int) -> str:
    """Makes the server's first message; `nonce` is that of both sides."""
    return f"r={nonce},s={base64.b64encode(salt).decode('ascii')},i={iterations}"


def auth_message(first: ClientFirst, answer: str, final: ClientFinal) -> bytes:
    """What both sides sign."""
    return f"{first.bare},{answer},{final.without_proof}".encode()


def proves(verifier: Verifier, signed: bytes, proof: bytes) -> bool:
    """Tells whether a proof is that of the password."""
    signature = hmac.digest(verifier.stored_key, signed, "sha256")
    client_key = bytes(a ^ b for a, b in zip(signature, proof, strict=True))
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored_key)


def server_final(verifier: Verifier, signed: bytes) -> str:
    """Makes the server's last message, which proves that it knows the verifier."""
    signature = hmac.digest(verifier.server_key, signed, "sha256")
    return "v=" + base64.b64encode(signature).decode("ascii")


def _text(data: bytes) -> str:
    if len(data) > _LONGEST_MESSAGE:
        raise ValueError("the message is too long")
    text = data.decode("utf-8")  # its error is a ValueError
    if "\0" in text or "\n" in text:
        raise ValueError("malformed SCRAM message")
    return text


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("malformed base64") from None

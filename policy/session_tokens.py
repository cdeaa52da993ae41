"""Tokens that stand for another token for a while: what SCRAM clients get for their password.

    pst_<payload>.<signature>

The payload is base64url of `{"id": ..., "exp": ...}`: the ID of the token it stands for, and when
it ends. The key is made from the service token, which the edge and the services share; the
SHA-256 of the token itself is signed too, so that the session ends when its token is revoked or
replaced. In place of an ID, `{"as": ..., "exp": ...}` says itself what somebody may do who has no
token any more.
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

from policy.standing import principal_of
from policy.tokens import Token

PREFIX = "pst_"
LIFETIME_S = 24 * 60 * 60
"""Gel's JavaScript client gets its token once, when it starts, and never again."""

_BRIEF_S = 60 * 60
"""What nobody can revoke lives shorter."""
_LONGEST = 6 * 1024
_PURPOSE = b"penstock session tokens 1"
_STANDING = "standing"
"""Signed in the place of a SHA-256."""


class SessionTokens:
    """Makes and reads session tokens."""

    def __init__(self, service_token: str) -> None:
        secret = service_token.encode("utf-8", "surrogatepass")
        self._key = hmac.digest(secret, _PURPOSE, "sha256") if secret else b""

    @property
    def available(self) -> bool:
        """Whether there is a key to sign with."""
        return bool(self._key)

    def mint(self, token_id: str, sha256: str) -> str:
        """Makes a session token. Needs a key."""
        return self._minted({"id": token_id}, LIFETIME_S, sha256)

    def mint_standing(self, standing: str) -> str:
        """Makes a session token for what `standing_of` returned. Needs a key."""
        return self._minted({"as": json.loads(standing)}, _BRIEF_S, _STANDING)

    def _minted(self, content: dict[str, Any], lifetime_s: int, proof: str) -> str:
        if not self._key:
            raise ValueError("Session tokens need a service token.")
        content["exp"] = int(time.time()) + lifetime_s
        payload = _encode(json.dumps(content, separators=(",", ":")).encode())
        return f"{PREFIX}{payload}.{_encode(self._sign(payload, proof))}"

    def find(self, text: str, by_id: Callable[[str], Iterable[Token]]) -> Token | None:
        """Returns the token that a session token stands for, unless it is over or forged."""
        if not self._key or len(text) > _LONGEST or not text.startswith(PREFIX):
            return None
        payload, dot, signature = text.removeprefix(PREFIX).partition(".")
        try:
            signed = _decode(signature)
            content: Any = json.loads(_decode(payload))
        except (ValueError, RecursionError):
            return None
        if not dot or not isinstance(content, dict):
            return None
        fields = cast("dict[str, object]", content)
        token_id, end = fields.get("id"), fields.get("exp")
        if not isinstance(end, int) or end <= time.time():
            return None
        if "as" in fields:
            principal = principal_of(fields["as"])
            if principal is None or not hmac.compare_digest(self._sign(payload, _STANDING), signed):
                return None
            return Token("", principal)
        if not isinstance(token_id, str):
            return None
        for token in by_id(token_id):
            if hmac.compare_digest(self._sign(payload, token.sha256), signed):
                return token
        return None

    def _sign(self, payload: str, proof: str) -> bytes:
        return hmac.digest(self._key, f"{payload}.{proof}".encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("malformed base64") from None
    if _encode(data) != text:  # one token has one spelling
        raise ValueError("malformed base64")
    return data

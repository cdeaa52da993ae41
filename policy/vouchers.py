"""Vouchers: one process tells another that it has counted a request already.

They are made with the token that services share, for one request of one principal, and hold for
minutes: nobody else can make one, and who sees one can do no other request with it.
"""

import hashlib
import hmac
import time

KEY = "x-penstock-counted"
"""Metadata that a voucher travels as."""

_HOLDS_S = 300
_PURPOSE = b"penstock request counted\0"


class Vouchers:
    """Makes and checks vouchers."""

    def __init__(self, service_token: str) -> None:
        """Takes the token that services share. Without one, no voucher is made and none holds."""
        token = service_token.encode()
        self._key = hashlib.sha256(_PURPOSE + token).digest() if token else b""

    def make(self, request_id: str, principal: str) -> str:
        """Returns a voucher for a request; empty without a token."""
        if not self._key:
            return ""
        now = str(int(time.time()))
        return f"{now}.{self._sign(now, request_id, principal)}"

    def holds(self, voucher: object, request_id: str, principal: str) -> bool:
        """Tells whether a voucher is for this request of this principal."""
        if not self._key or not isinstance(voucher, str) or len(voucher) > 128:
            return False
        made, _, signature = voucher.partition(".")
        if not made.isascii() or not made.isdigit() or not signature.isascii():
            return False
        if abs(time.time() - int(made)) > _HOLDS_S:
            return False
        return hmac.compare_digest(signature, self._sign(made, request_id, principal))

    def _sign(self, made: str, request_id: str, principal: str) -> str:
        text = "\0".join((made, request_id, principal)).encode()
        return hmac.digest(self._key, text, "sha256").hex()

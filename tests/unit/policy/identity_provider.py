"""An identity provider: signs tokens, and tells its keys over HTTP."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from policy.jwks import KeysWantedError
from policy.oidc import JwtRules, JwtVerifier

ISSUER = "https://id.example.org"
AUDIENCE = "penstock"

_MAKE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


class SigningKey:
    """One of the provider's keys."""

    def __init__(self, kid: str | None, algorithm: str = "ES256", private: Any = None) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private = private or _MAKE[algorithm]()

    def public(self, **fields: Any) -> dict[str, Any]:
        """As the provider tells it."""
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(
            self.private.public_key(), as_dict=True
        )
        made |= {"use": "sig"} | ({} if self.kid is None else {"kid": self.kid})
        return made | fields

    def sign(self, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token; a claim that is None is left out."""
        whole = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": time.time() + 600,
            "roles": ["user"],
        } | claims
        given = {name: value for name, value in whole.items() if value is not None}
        more = ({} if self.kid is None else {"kid": self.kid}) | (headers or {})
        return jwt.encode(given, self.private, self.algorithm, headers=more)


def key_set(*keys: SigningKey | dict[str, Any]) -> bytes:
    """A JSON Web Key Set."""
    told = [key.public() if isinstance(key, SigningKey) else key for key in keys]
    return json.dumps({"keys": told}).encode()


class Provider:
    """Its HTTP server; `answer` may be changed while it runs."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/keys"
        self.asked = 0
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda h: h.send_error(404)

    def tell(self, *keys: SigningKey | dict[str, Any]) -> None:
        """Tells these keys from now on."""
        body = key_set(*keys)

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer


@contextmanager
def running_provider() -> Iterator[Provider]:
    """Runs a provider."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            try:
                provider.answer(self)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def verifier(file: Path | None = None, **rules: Any) -> JwtVerifier:
    """What tells whose the provider's tokens are."""
    return JwtVerifier(JwtRules(ISSUER, AUDIENCE, jwks_file=str(file or ""), **rules))


async def asked(checked: JwtVerifier, token: str) -> str | None:
    """Whose a token is, as processes ask."""
    principal = None
    try:
        principal = checked.verify(token)
    except KeysWantedError as wanted:
        await wanted.refresh()
        with contextlib.suppress(KeysWantedError):  # once is enough
            principal = checked.verify(token)
    return None if principal is None else principal.id

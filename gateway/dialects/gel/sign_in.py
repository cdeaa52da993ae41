"""`GET /auth/token`: a bearer token for a user and a password, by SCRAM-SHA-256.

The password is an API key. It is never sent: client and server prove to each other that they
know it, or its verifier.
"""

import asyncio
import base64
import binascii
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from gateway.answers import TEXT, send_body
from gateway.auth import Authenticator
from gateway.context import context_of
from gateway.dialects.gel.envelope import CLOSE
from gateway.errors import Problem, ProblemError
from policy import scram
from policy.tokens import Token

_logger = logging.getLogger(__name__)

_SCHEME = "SCRAM-SHA-256"
_SESSION_S = 30.0
_MOST_SESSIONS = 4096
_LONGEST_CREDENTIAL = 4096
_ATTRIBUTE = re.compile(r'([A-Za-z]+)=(?:"([^"]*)"|([A-Za-z0-9+/=_-]*))(?:\s*,\s*|\s+|$)')
_PURPOSE = b"penstock scram salts 1"

PLAIN_USERS = frozenset({"edgedb", "admin"})
"""Gel's own first users: their passwords are the keys that lie in plain text."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A password that may turn out to be the one."""

    token: Token
    verifier: scram.Verifier


@dataclass(frozen=True, slots=True)
class _Session:
    """A client that has said who it is and has yet to prove it."""

    since: float
    first: scram.ClientFirst
    nonce: str
    answer: str
    candidates: Sequence[_Candidate]


class _RefusedError(Exception):
    """Ends a sign-in: nobody is told more than the message."""


class SignIn:
    """`GET /auth/token`."""

    def __init__(self, authenticator: Authenticator, service_token: str) -> None:
        self._authenticator = authenticator
        self._salt_key = hmac.digest(service_token.encode("utf-8", "replace"), _PURPOSE, "sha256")
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._derived: dict[tuple[str, bytes, int], scram.Verifier] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] != "GET":
            raise ProblemError(Problem("METHOD_NOT_ALLOWED", "Invalid request method", allow="GET"))
        credential = context_of(scope).headers.get("authorization", "").strip()
        scheme, _, rest = credential.partition(" ")
        try:
            if scheme.upper() != _SCHEME or len(credential) > _LONGEST_CREDENTIAL:
                raise _RefusedError("Sign in with SCRAM-SHA-256.")
            if not self._authenticator.sessions.available:
                _logger.error(
                    "a client wants to sign in by SCRAM, which needs a service token: "
                    "set PENSTOCK_SERVICE_TOKEN for the edge and for the services"
                )
                raise _RefusedError("Authentication failed")
            attributes = _attributes(rest)
            if "sid" in attributes:
                await self._finish(attributes["sid"], attributes["data"], send)
            else:
                await self._begin(attributes["data"], send)
        except _RefusedError as error:
            await _answer(send, 401, str(error), [(b"www-authenticate", _SCHEME.encode())])
        except ValueError as error:
            message = f"Bad SCRAM message: {error}"
            await _answer(send, 400, message.encode("ascii", "replace").decode(), [CLOSE])

    async def _begin(self, data: str, send: Send) -> None:
        first = scram.parse_client_first(_decoded(data))
        candidates, salt, iterations = await self._candidates(first.user)
        nonce = first.nonce + scram.new_nonce()
        answer = scram.server_first(nonce, salt, iterations)
        session_id = secrets.token_urlsafe(16)
        now = time.monotonic()
        self._forget(now)
        self._sessions[session_id] = _Session(now, first, nonce, answer, candidates)
        challenge = f"{_SCHEME} sid={session_id}, data={_encoded(answer)}"
        await _answer(send, 401, "", [(b"www-authenticate", challenge.encode())])

    async def _finish(self, session_id: str, data: str, send: Send) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None or session.since + _SESSION_S < time.monotonic():
            raise _RefusedError("The session is unknown or over. Begin again.")
        final = scram.parse_client_final(_decoded(data), session.first.header)
        if not hmac.compare_digest(final.nonce, session.nonce):
            raise _RefusedError("Authentication failed")
        signed = scram.auth_message(session.first, session.answer, final)
        proven = [c for c in session.candidates if scram.proves(c.verifier, signed, final.proof)]
        if not proven or self._is_over(proven[0].token):
            raise _RefusedError("Authentication failed")
        token, verifier = proven[0].token, proven[0].verifier
        bearer = self._authenticator.sessions.mint(token.principal.id, token.sha256)
        info = f"sid={session_id}, data={_encoded(scram.server_final(verifier, signed))}"
        await _answer(send, 200, bearer, [(b"authentication-info", info.encode())])

    def _is_over(self, token: Token) -> bool:
        """Tells whether a token was revoked or has ended since the session began."""
        known = self._authenticator.tokens.find(token.sha256)
        return known is None or known.over

    async def _candidates(self, user: str) -> tuple[Sequence[_Candidate], bytes, int]:
        """Returns what the password may be, and the salt and iterations to tell the client.

        Who doesn't exist has a salt too, always the same, so that nobody learns who does.
        """
        tokens = self._authenticator.tokens
        made = [
            _Candidate(token, token.verifier)
            for token in tokens.of_gel_user(user)
            if token.verifier is not None
        ]
        if made:
            salt, iterations = made[0].verifier.salt, made[0].verifier.iterations
        else:
            digest = hmac.digest(self._salt_key, user.encode(), "sha256")
            salt, iterations = digest[: scram.SALT_BYTES], scram.ITERATIONS
        # Keys of one user share a salt: a client is told one, and can prove any of them.
        found = [c for c in made if (c.verifier.salt, c.verifier.iterations) == (salt, iterations)]
        if user in PLAIN_USERS:
            plain = [token for token in tokens.in_plain_text() if token.secret]
            verifiers = await asyncio.to_thread(self._derive, plain, salt, iterations)
            found += [_Candidate(t, v) for t, v in zip(plain, verifiers, strict=True)]
        return found, salt, iterations

    def _derive(
        self, tokens: Sequence[Token], salt: bytes, iterations: int
    ) -> list[scram.Verifier]:
        fresh: dict[tuple[str, bytes, int], scram.Verifier] = {}
        for token in tokens:
            key = (token.sha256, salt, iterations)
            known = self._derived.get(key)
            fresh[key] = known or scram.derive(token.secret, salt, iterations)
        self._derived = fresh if len(self._derived) > _MOST_SESSIONS else self._derived | fresh
        return list(fresh.values())

    def _forget(self, now: float) -> None:
        """Drops sessions that are over, and the oldest ones when there are too many."""
        while self._sessions:
            session_id, session = next(iter(self._sessions.items()))
            over = session.since + _SESSION_S < now
            if not over and len(self._sessions) < _MOST_SESSIONS:
                return
            del self._sessions[session_id]


def _attributes(text: str) -> dict[str, str]:
    """Reads `sid=..., data=...`; some clients leave the comma out, others quote."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ATTRIBUTE.match(text, at)
        if match is None or match[1].lower() in found:
            raise ValueError("malformed attributes")
        found[match[1].lower()] = match[2] or match[3] or ""
        at = match.end()
    if "data" not in found:
        raise ValueError("data is missing")
    return found


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("data is not base64") from None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


async def _answer(
    send: Send, status: int, text: str, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    await send_body(send, text.encode(), status, [TEXT, *headers])

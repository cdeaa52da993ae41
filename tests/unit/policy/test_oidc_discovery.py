"""Issuers that say themselves where their keys are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from policy import discovery, jwks
from policy.oidc import JwtRules, JwtVerifier
from tests.unit.policy.identity_provider import (
    AUDIENCE,
    ISSUER,
    Provider,
    SigningKey,
    asked,
    running_provider,
)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


def described(provider: Provider, **changes: Any) -> str:
    """Makes the provider describe itself; returns its issuer."""
    issuer = provider.url.removesuffix("/keys")
    keys = provider.answer
    told = {"issuer": issuer, "jwks_uri": provider.url} | changes

    def answer(handler: Any) -> None:
        if handler.path == "/.well-known/openid-configuration":
            data = json.dumps(told).encode()
            handler.send_response(200)
            handler.send_header("content-length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        else:
            keys(handler)

    provider.answer = answer
    return issuer


async def test_an_issuer_says_where_its_keys_are(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_S", 0.0)
    first, second = SigningKey("first"), SigningKey("second", "RS256")
    provider.tell(first)
    issuer = described(provider)
    checked = JwtVerifier(JwtRules(issuer, AUDIENCE))
    token = first.sign(iss=issuer)
    assert await asyncio.gather(*(asked(checked, token) for _ in range(5))) == ["jwt:alice"] * 5
    assert provider.asked == 2, "the description, and the keys"
    assert checked.verify(token) is not None, "both are remembered"
    assert await asked(checked, first.sign(iss=f"{issuer}/")) is None
    # The keys rotate and move at once.
    provider.tell(second)
    moved = described(provider, jwks_uri=f"{issuer}/elsewhere")
    assert await asked(checked, second.sign(iss=moved)) == "jwt:alice"
    assert await asked(checked, token) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://id.example.org"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 5},
        {"jwks_uri": "http://id.example.org/keys"},
        {"jwks_uri": "file:///etc/passwd"},
    ],
)
async def test_descriptions_that_are_not_followed(provider: Provider, changes: dict) -> None:
    key = SigningKey("key")
    provider.tell(key)
    issuer = described(provider, **changes)
    checked = JwtVerifier(JwtRules(issuer, AUDIENCE))
    assert await asked(checked, key.sign(iss=issuer)) is None
    assert not checked.known
    assert provider.asked == 1, "nobody was asked for keys"


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 100_000, b"\xff"])
def test_descriptions_that_are_none(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(discovery, "fetch_bytes", lambda _: data)
    with pytest.raises(ValueError, match=r"."):
        discovery.discovered(ISSUER, discovery.discovery_url(ISSUER))

"""Signed-in users: which tokens are good, whom they stand for, and how keys change."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from policy import jwks
from policy.credentials import Credentials
from policy.fed_keys import KeysUnknownError
from policy.jwks import FileKeys, KeysWantedError, UrlKeys, fetch_bytes, read_keys
from policy.oidc import JwtRules, JwtSettingsError, JwtVerifier, parse_role_map
from policy.principals import Role
from policy.token_store import TokenSources
from tests.unit.policy.identity_provider import (
    AUDIENCE,
    ISSUER,
    Provider,
    SigningKey,
    asked,
    key_set,
    running_provider,
    verifier,
)

ALGORITHMS = ("RS256", "ES256", "EdDSA")
KEYS = {algorithm: SigningKey(f"k-{algorithm}", algorithm) for algorithm in ALGORITHMS}
STRANGER = SigningKey("k-ES256", "ES256")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(*KEYS.values()))
    return path


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_signature(file: Path, algorithm: str) -> None:
    token = KEYS[algorithm].sign(roles=["trainer", "unheard", "service"], name="Alice A.")
    principal = verifier(file).verify(token)
    assert principal is not None
    assert (principal.id, principal.name) == ("jwt:alice", "Alice A.")
    assert principal.roles == {Role.TRAINER}
    assert principal.tenants == ("default",)
    assert principal.expires_at is not None
    others = [other for other in ALGORITHMS if other != algorithm]
    assert verifier(file, algorithms=others).verify(token) is None


@pytest.mark.parametrize(
    ("claims", "headers"),
    [
        ({"iss": "https://other.example.org"}, {}),
        ({"iss": None}, {}),
        ({"aud": "another"}, {}),
        ({"aud": ["another"]}, {}),
        ({"aud": None}, {}),
        ({"exp": time.time() - 3600}, {}),
        ({"exp": None}, {}),
        ({"exp": "soon"}, {}),
        ({"exp": 1e400}, {}),
        ({"nbf": time.time() + 3600}, {}),
        ({"sub": None}, {}),
        ({"sub": ""}, {}),
        ({"sub": 5}, {}),
        ({"sub": "a\nb"}, {}),
        ({"sub": "x" * 201}, {}),
        ({}, {"kid": "another"}),
        ({}, {"crit": ["unheard"], "unheard": 1}),
    ],
)
def test_tokens_that_are_not_good(file: Path, claims: dict, headers: dict) -> None:
    assert verifier(file).verify(KEYS["ES256"].sign(headers=headers, **claims)) is None
    assert verifier(file).verify(KEYS["ES256"].sign()) is not None


@pytest.mark.parametrize(("claim", "ahead_s"), [("exp", -500), ("nbf", 500)])
def test_clocks_may_differ(file: Path, claim: str, ahead_s: float) -> None:
    token = KEYS["ES256"].sign(**{claim: time.time() + ahead_s})
    assert verifier(file, leeway_s=600.0).verify(token) is not None
    assert verifier(file, leeway_s=0.0).verify(token) is None


def forged(header: dict[str, Any], sign: Any = lambda _: b"") -> str:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "exp": time.time() + 60}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    signature = base64.urlsafe_b64encode(sign(b".".join(parts))).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


def test_forgeries(file: Path) -> None:
    public = KEYS["RS256"].private.public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with_pem = lambda data: hmac.digest(pem, data, hashlib.sha256)  # noqa: E731
    good = KEYS["ES256"].sign()
    checked = verifier(file)
    for token in (
        forged({"alg": "none"}),
        forged({"alg": "None", "kid": "k-RS256"}),
        forged({"alg": "HS256", "kid": "k-RS256"}, with_pem),
        forged({"alg": "RS256", "kid": "k-ES256"}),
        forged({"kid": "k-ES256"}),
        forged({"alg": ["ES256"]}),
        forged({"alg": "ES256", "kid": {"a": 1}}),
        forged({"alg": "ES256", "jwk": STRANGER.public()}),
        STRANGER.sign(),
        STRANGER.sign(headers={"jwk": STRANGER.public(), "jku": "http://127.0.0.1:1/"}),
        good[:-2],
        good + "A",
        good.rpartition(".")[0] + ".",
        good.replace(".", "..", 1),
        "a.b.c",
        "..",
        "",
        good + "x" * 20_000,
    ):
        assert checked.verify(token) is None, token[:80]
    assert checked.verify(good) is not None


@given(st.text(max_size=60))
def test_anything_else_is_nobody(text: str) -> None:
    source = read_keys(key_set(KEYS["ES256"]))

    class Fixed:
        known = True

        def find(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
            return jwks.matching(source, kid, algorithm)

    checked = JwtVerifier(JwtRules(ISSUER, AUDIENCE), Fixed())
    for token in (text, f"{text}.{text}.{text}", f"eyJhbGciOiJFUzI1NiJ9.{text}.x"):
        assert checked.verify(token) is None


@pytest.mark.parametrize(
    ("rules", "claims", "roles"),
    [
        ({}, {"roles": "user trainer"}, {"user", "trainer"}),
        ({}, {"roles": ["admin", 5, None, "service"]}, {"admin"}),
        ({}, {"roles": None}, set()),
        ({}, {"roles": {"user": 1}}, set()),
        ({"roles_claim": "a.b"}, {"a": {"b": ["user"]}}, {"user"}),
        ({"roles_claim": "a.b"}, {"a": "b"}, set()),
        ({"roles_claim": "https://x.org/r"}, {"https://x.org/r": ["user"]}, {"user"}),
        ({"role_map": ["ml team=trainer", "k=v=admin"]}, {"roles": ["ml team"]}, {"trainer"}),
        ({"role_map": ["ml team=trainer", "k=v=admin"]}, {"roles": ["k=v"]}, {"admin"}),
        ({"role_map": ["x=user"]}, {"roles": ["admin", "user"]}, set()),
    ],
)
def test_roles(file: Path, rules: dict, claims: dict, roles: set[str]) -> None:
    principal = verifier(file, **rules).verify(KEYS["ES256"].sign(**claims))
    assert principal is not None
    assert principal.roles == roles


@pytest.mark.parametrize(
    ("claims", "tenants"),
    [
        ({"org": ["acme", "a/b", "beta", "acme"]}, ("acme", "beta")),
        ({"org": "acme"}, ("acme",)),
        ({}, ("default",)),
    ],
)
def test_tenants(file: Path, claims: dict, tenants: tuple[str, ...]) -> None:
    principal = verifier(file, tenants_claim="org").verify(KEYS["ES256"].sign(**claims))
    assert principal is not None
    assert principal.tenants == tenants


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issuer": ""}, "issuer"),
        ({"audience": ""}, "audience"),
        ({"algorithms": ("ES256", "HS256")}, "algorithms"),
        ({"algorithms": ("none",)}, "algorithms"),
        ({"algorithms": ()}, "algorithms"),
        ({"leeway_s": 601.0}, "leeway_s"),
        ({"cache_s": 9.0}, "cache_s"),
        ({"role_map": ["a=root"]}, "role_map"),
        ({"jwks_file": "", "issuer": "http://x.org"}, "issuer: .*https"),
        ({"jwks_file": "", "issuer": "me"}, "issuer: .*https"),
        ({"jwks_url": "https://x.org/keys"}, "name one"),
        ({"jwks_file": "/nowhere"}, "jwks_file"),
        ({"jwks_file": "", "jwks_url": "http://x.org/keys"}, "https"),
        ({"jwks_file": "", "jwks_url": "file:///etc/passwd"}, "https"),
        ({"jwks_file": "", "jwks_url": "https:///keys"}, "https"),
    ],
)
def test_rules_that_make_no_sense(file: Path, changes: dict, said: str) -> None:
    rules = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": str(file)} | changes
    with pytest.raises(JwtSettingsError, match=said):
        JwtVerifier(JwtRules(**rules))


@pytest.mark.parametrize("entry", ["admin", "=admin", "a=", "a=root", "a=service"])
def test_maps_that_make_no_sense(entry: str) -> None:
    with pytest.raises(JwtSettingsError, match="role_map"):
        parse_role_map([entry])
    with pytest.raises(JwtSettingsError, match="two roles"):
        parse_role_map(["a=user", "a=admin"])


def test_keys_that_verify_nothing_are_left_out() -> None:
    small = SigningKey("small", "RS256", rsa.generate_private_key(65537, 1024))
    good = KEYS["ES256"].public()
    left_out: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "shared"},
        good | {"use": "enc"},
        good | {"crv": "P-999"},
        {"kty": "EC"},
        small.public(),
        "text",
        5,
    ]
    assert len(read_keys(key_set(good, *left_out))) == 1
    for data in (key_set(*left_out), b"", b"{}", b"[]", b'{"keys": 5}', b"[" * 100_000):
        with pytest.raises(ValueError, match=r"."):
            read_keys(data)


def test_a_file_is_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_RECHECK_S", 0.0)
    checked = JwtVerifier(JwtRules(ISSUER, AUDIENCE), FileKeys(file))
    new = SigningKey("new")
    assert checked.verify(new.sign()) is None
    file.write_bytes(key_set(new))
    assert checked.verify(new.sign()) is not None
    assert checked.verify(KEYS["ES256"].sign()) is None
    file.write_text("{")
    assert checked.verify(new.sign()) is not None, "the keys read before stay"


def at(provider: Provider, **rules: Any) -> JwtVerifier:
    return verifier(jwks_url=provider.url, **rules)


async def test_keys_rotate(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_S", 0.0)
    old, new = SigningKey("old"), SigningKey("new", "RS256")
    provider.tell(old)
    checked = at(provider)
    assert not checked.known
    many = await asyncio.gather(*(asked(checked, old.sign(sub=f"u{n}")) for n in range(20)))
    assert many == [f"jwt:u{n}" for n in range(20)]
    assert provider.asked == 1, "once for all who want them"
    provider.tell(old, new)
    assert await asked(checked, new.sign()) == "jwt:alice"
    assert provider.asked == 2
    assert await asked(checked, old.sign()) == "jwt:alice"
    provider.tell(new)
    assert await asked(checked, SigningKey("nobody's").sign()) is None
    assert await asked(checked, old.sign()) is None, "it was withdrawn"


async def test_strangers_do_not_have_keys_fetched_again_and_again(provider: Provider) -> None:
    key = SigningKey("key")
    provider.tell(key)
    checked = at(provider)
    assert await asked(checked, key.sign()) == "jwt:alice"
    for number in range(20):
        assert await asked(checked, SigningKey(f"k{number}").sign()) is None
    assert provider.asked == 1


async def test_old_keys_are_renewed_behind_the_scenes(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_S", 1.0)
    now = 1000.0
    monkeypatch.setattr(jwks.time, "monotonic", lambda: now)
    key, other = SigningKey("key"), SigningKey("other")
    provider.tell(key)
    source = UrlKeys(provider.url, cache_s=100.0)
    checked = JwtVerifier(JwtRules(ISSUER, AUDIENCE), source)
    assert await asked(checked, key.sign()) == "jwt:alice"
    now += 150
    provider.tell(other)
    assert checked.verify(key.sign()) is not None, "nobody waits for newer keys"
    await source.refresh()
    assert provider.asked == 2
    assert await asked(checked, key.sign()) is None
    # So old that nobody may be let in before they are renewed, unless the provider is away.
    now += 1000
    provider.tell(key)
    assert await asked(checked, other.sign()) is None
    provider.answer = lambda handler: handler.send_error(500)
    now += 1000
    assert await asked(checked, key.sign()) == "jwt:alice"


async def test_a_provider_that_is_away(provider: Provider) -> None:
    checked = at(provider)
    credentials = Credentials(TokenSources(api_tokens=("a.b.c",)), jwt=checked)
    with pytest.raises(KeysWantedError) as wanted:
        credentials.identify(SigningKey("key").sign())
    await wanted.value.refresh()
    with pytest.raises(KeysUnknownError):
        credentials.identify(SigningKey("key").sign())
    assert credentials.identify("nobody") is None
    assert credentials.identify("a.b.c") is not None, "a token goes first"


def redirecting(handler: Any) -> None:
    handler.send_response(302)
    handler.send_header("location", "http://127.0.0.1:1/")
    handler.end_headers()


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def dripping(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (redirecting, "302"),
        (endless, "bytes"),
        (dripping, "longer"),
        (lambda handler: handler.send_error(404), "404"),
    ],
)
def test_answers_have_bounds(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, answer: Any, error: str
) -> None:
    monkeypatch.setattr(jwks, "_FETCH_S", 0.2 if answer is dripping else 10.0)
    provider.answer = answer
    with pytest.raises((OSError, ValueError), match=error):
        fetch_bytes(provider.url)

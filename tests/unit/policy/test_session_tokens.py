"""Session tokens: what the edge makes, everybody reads, and nobody forges."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.credentials import Credentials
from policy.principals import ANONYMOUS, Limits, Principal, Role
from policy.session_tokens import LIFETIME_S, SessionTokens
from policy.standing import principal_of, standing_of
from policy.token_store import TokenSources
from policy.tokens import Token

ONE, TWO = Token("1" * 64, ANONYMOUS), Token("2" * 64, ANONYMOUS)
KEYS = {"one": [ONE], "two": [TWO], "twins": [TWO, ONE]}


def by_id(token_id: str) -> list[Token]:
    return KEYS.get(token_id, [])


def test_a_token_is_read() -> None:
    minted = SessionTokens("service").mint("one", ONE.sha256)
    assert minted.startswith("pst_")
    assert minted.isascii()
    assert ONE.sha256 not in minted
    assert SessionTokens("service").find(minted, by_id) is ONE
    twin = SessionTokens("service").mint("twins", ONE.sha256)
    assert SessionTokens("service").find(twin, by_id) is ONE


def test_a_token_is_bound() -> None:
    minted = SessionTokens("service").mint("one", ONE.sha256)
    assert SessionTokens("other").find(minted, by_id) is None
    assert SessionTokens("").find(minted, by_id) is None
    assert SessionTokens("service").find(minted, lambda _: [TWO]) is None  # replaced
    assert SessionTokens("service").find(minted, lambda _: []) is None  # revoked
    forged = SessionTokens("service").mint("one", TWO.sha256)
    assert SessionTokens("service").find(forged, by_id) is None


def test_a_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    minted = SessionTokens("service").mint("one", ONE.sha256)
    later = time.time() + LIFETIME_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert SessionTokens("service").find(minted, by_id) is None


def altered(minted: str, **fields: Any) -> str:
    payload, _, signature = minted.removeprefix("pst_").partition(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=="))
    data = json.dumps(content | fields, separators=(",", ":")).encode()
    return f"pst_{base64.urlsafe_b64encode(data).decode().rstrip('=')}.{signature}"


def test_no_byte_may_change() -> None:
    minted = SessionTokens("service").mint("one", ONE.sha256)
    assert altered(minted) == minted
    assert SessionTokens("service").find(altered(minted, exp=2**40), by_id) is None
    assert SessionTokens("service").find(altered(minted, id="two"), by_id) is None
    for at in range(len(minted)):
        changed = minted[:at] + ("A" if minted[at] != "A" else "B") + minted[at + 1 :]
        assert SessionTokens("service").find(changed, by_id) is None, at
    for other in (minted + "=", minted + "A", minted[:-1], minted.replace(".", ""), minted + ".x"):
        assert SessionTokens("service").find(other, by_id) is None


@given(text=st.text(max_size=80) | st.text('[]{}":0123456789,', max_size=40))
def test_anything_else_is_none(text: str) -> None:
    payload = base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode().rstrip("=")
    for token in (text, f"pst_{text}", f"pst_{payload}.{payload}", f"pst_{payload}.", "pst_."):
        assert SessionTokens("service").find(token, by_id) is None


@pytest.mark.parametrize("content", [[], 5, {}, {"id": "one"}, {"id": 5, "exp": 2**40}, None])
def test_other_payloads(content: object) -> None:
    payload = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    assert SessionTokens("service").find(f"pst_{payload}.AAAA", by_id) is None
    nested = base64.urlsafe_b64encode(b"[" * 700).decode().rstrip("=")
    assert SessionTokens("service").find(f"pst_{nested}.AAAA", by_id) is None


def test_without_a_service_token_none_is_made() -> None:
    assert not SessionTokens("").available
    with pytest.raises(ValueError, match="service token"):
        SessionTokens("").mint("one", ONE.sha256)


ALICE = Principal(
    "jwt:alice",
    "Alice ünï",
    frozenset({Role.ADMIN}),
    tenants=("acme", "beta"),
    expires_at=5.0,
    limits=Limits(tokens_per_day=7, concurrent_requests=0),
    allowed_models=("gpt*",),
)


@pytest.mark.parametrize("id", ["jwt:alice", "spiffe://example.org/ns/a"])
def test_a_standing_outlives_its_credential(id: str) -> None:
    told = standing_of(dataclasses.replace(ALICE, id=id))
    minted = SessionTokens("service").mint_standing(told)
    found = SessionTokens("service").find(minted, by_id)
    assert found is not None
    assert not found.over
    assert found.principal == dataclasses.replace(
        ALICE, id=id, roles=frozenset({Role.USER}), expires_at=None
    )
    assert SessionTokens("other").find(minted, by_id) is None
    assert SessionTokens("service").find(altered(minted, exp=2**40), by_id) is None
    # Who has a token of their own can't say that it is a standing, nor the other way round.
    forged = altered(SessionTokens("service").mint("one", ONE.sha256), **{"as": json.loads(told)})
    assert SessionTokens("service").find(forged, by_id) is None
    assert SessionTokens("service").find(altered(minted, id="one"), by_id) is None


def test_a_standing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    minted = SessionTokens("service").mint_standing(standing_of(ALICE))
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    assert SessionTokens("service").find(minted, by_id) is None


def test_nobody_is_signed_in_where_nobody_signs_in() -> None:
    credentials = Credentials(TokenSources(service_token="service"))
    minted = credentials.sessions.mint_standing(standing_of(ALICE))
    assert credentials.identify(minted) is None


@pytest.mark.parametrize(
    "who",
    [
        ANONYMOUS,
        dataclasses.replace(ALICE, id="key_1"),
        dataclasses.replace(ALICE, roles=frozenset()),
        Principal("service", "service", frozenset({Role.SERVICE})),
    ],
)
def test_who_has_a_key_has_no_standing(who: Principal) -> None:
    assert standing_of(who) == ""


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "name", "tenants", "limits", "allowed_models", "x"]), inner
            )
        ),
    )
)
def test_any_standing_is_somebody_or_nobody(told: Any) -> None:
    found = principal_of(told)
    assert found is None or found.roles == {Role.USER}
    if isinstance(told, dict):
        principal_of(json.loads(standing_of(ALICE)) | told)

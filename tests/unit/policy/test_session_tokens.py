"""Session tokens: what the edge makes, everybody reads, and nobody forges."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.principals import ANONYMOUS
from policy.session_tokens import LIFETIME_S, SessionTokens
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

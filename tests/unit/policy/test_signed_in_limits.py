"""Limits of signed-in users, by what their tokens say."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.oidc import JwtSettingsError
from policy.principals import Limits
from tests.unit.policy.identity_provider import SigningKey, key_set, verifier

KEY = SigningKey("key")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(KEY))
    return path


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, Limits()),
        ({"roles": ["nobody"]}, Limits()),
        ({"roles": ["ml team"]}, Limits(tokens_per_day=10, concurrent_requests=3)),
        (
            {"roles": ["gold", "ml team"]},
            Limits(tokens_per_day=0, concurrent_requests=3, requests_per_minute=5),
        ),
        ({"roles": ["gold", "nobody"]}, Limits(tokens_per_day=0, requests_per_minute=5)),
        ({"roles": 7}, Limits()),
    ],
)
def test_limits(file: Path, claims: dict, expected: Limits) -> None:
    limits = [
        "ml team tokens_per_day=10 concurrent_requests=3",
        "gold  tokens_per_day=0 requests_per_minute=5",
    ]
    principal = verifier(file, limits=limits).verify(KEY.sign(**claims))
    assert principal is not None
    assert principal.limits == expected
    moved = {"plan": claims.get("roles"), "roles": ["gold"]}
    principal = verifier(file, limits=limits, limits_claim="plan").verify(KEY.sign(**moved))
    assert principal is not None
    assert principal.limits == expected


@pytest.mark.parametrize(
    "entry",
    [
        *("", "gold", "tokens_per_day=5", "gold tokens=5", "gold tokens_per_day=-1"),
        *("gold tokens_per_day=", "gold tokens_per_day=5 tokens_per_day=6"),
        "gold tokens_per_day=x",
    ],
)
def test_limits_that_make_no_sense(file: Path, entry: str) -> None:
    with pytest.raises(JwtSettingsError, match=r"limits: .*is not like"):
        verifier(file, limits=[entry])
    with pytest.raises(JwtSettingsError, match="twice"):
        verifier(file, limits=["a tokens_per_day=1", "a tokens_per_day=2"])

"""Generated bad input against the running edge: never a 500, never a hang, always the envelope."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.stack import Platform

GENERATED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ROUTES = ["/v1/chat/completions", "/v1/completions"]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = (
    *("model", "messages", "prompt", "temperature", "top_p", "max_tokens", "n", "stop", "stream"),
    *("stream_options", "logprobs", "top_logprobs", "seed", "logit_bias", "tools", "tool_choice"),
    *("response_format", "presence_penalty", "best_of", "echo", "functions", "top_k", "suffix"),
)


@pytest.fixture(scope="module")
def client(platform: Platform) -> Any:
    with httpx.Client(base_url=platform.url, headers=platform.headers(), timeout=30) as opened:
        yield opened


def assert_refused_well(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["x-request-id"]


@GENERATED
@given(route=st.sampled_from(ROUTES), wrong=st.dictionaries(st.sampled_from(FIELDS), anything))
def test_wrong_fields(client: httpx.Client, route: str, wrong: dict[str, Any]) -> None:
    body = {
        "model": "penstock-starter",
        "messages": [{"role": "user", "content": "Hi"}],
        "prompt": "Hi",
        "max_tokens": 2,
    } | wrong
    if isinstance(body.get("max_tokens"), int | None) and body["max_tokens"] != 2:
        body["max_tokens"] = 2
    answer = client.post(route, content=json.dumps(body))
    assert_refused_well(answer)


@GENERATED
@given(
    route=st.sampled_from(ROUTES),
    body=st.one_of(st.binary(max_size=200), st.text().map(str.encode)),
)
def test_wrong_bytes(client: httpx.Client, route: str, body: bytes) -> None:
    answer = client.post(route, content=body)
    assert_refused_well(answer)
    assert answer.status_code == 400


@GENERATED
@given(cut=st.integers(min_value=0, max_value=90))
def test_truncated_bodies(client: httpx.Client, cut: int) -> None:
    whole = (
        b'{"model":"penstock-starter","messages":[{"role":"user","content":"Hi there, friend"}]}'
    )
    answer = client.post(ROUTES[0], content=whole[: min(cut, len(whole) - 1)])
    assert_refused_well(answer)
    assert answer.status_code == 400


@pytest.mark.parametrize("depth", [50, 2_000, 500_000])
def test_deep_json(client: httpx.Client, depth: int) -> None:
    body = b'{"model":"penstock-starter","messages":' + b"[" * depth + b"]" * depth + b"}"
    answer = client.post(ROUTES[0], content=body)
    assert_refused_well(answer)
    assert answer.status_code == 400


@pytest.mark.parametrize("number", ["1e400", "-1e400", "NaN", "Infinity", "9" * 400, "1e-400"])
def test_odd_numbers(client: httpx.Client, number: str) -> None:
    for field in ("temperature", "max_tokens", "seed", "n"):
        body = (
            '{"model":"penstock-starter","messages":[{"role":"user","content":"Hi"}],'
            f'"{field}":{number}}}'
        )
        assert_refused_well(client.post(ROUTES[0], content=body.encode()))


def test_one_byte_too_many(client: httpx.Client) -> None:
    def pieces(total: int) -> Any:
        for _ in range(total // (1 << 20)):
            yield b" " * (1 << 20)
        yield b" " * (total % (1 << 20))

    answer = client.post(ROUTES[0], content=pieces((64 << 20) + 1))
    assert answer.status_code == 413
    assert_refused_well(answer)


def test_no_such_route_and_method(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").status_code == 404
    assert_refused_well(client.get("/v1/nothing"))
    answer = client.get(ROUTES[0])
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert_refused_well(answer)

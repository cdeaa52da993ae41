"""Bodies that no SDK would send: each gets a 4xx in the envelope, soon."""

from __future__ import annotations

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.odd_bodies import damage

PATHS = ("/v1/chat/completions", "/v1/completions")
VALID = json.dumps(
    {
        "model": "words",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "prompt": ["hi"],
        "n": 1,
        "temperature": 0.5,
        "stop": ["x"],
        "logit_bias": {"5": 1},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [1]}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "stream": False,
    }
).encode()

DEEP = 100_000
HORRORS = {
    "nothing": b"",
    "array": b"[]",
    "number": b"5",
    "text": b'"x"',
    "null": b"null",
    "truncated": VALID[: len(VALID) // 2],
    "trailing": VALID + b"x",
    "nan": b'{"model":"m","temperature":NaN}',
    "infinity": b'{"model":"m","temperature":-Infinity}',
    "huge float": VALID.replace(b'"temperature": 0.5', b'"temperature": 1e400'),
    "huge integer": VALID.replace(b'"n": 1', b'"n": ' + b"9" * 5000),
    "huge unknown": VALID.replace(b'"n": 1', b'"n": true, "x": ' + b"9" * 50_000),
    "deep unknown": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep known": b'{"messages":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep objects": b'{"messages":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep schema": VALID.replace(
        b'"schema": {}', b'"schema": {"a":' + b"[" * 900 + b"]" * 900 + b"}"
    ),
    "unclosed": b"[" * DEEP,
    "invalid utf-8": VALID.replace(b"hi", b"\xff\xfe"),
    "invalid utf-8 in the unknown": VALID.replace(b'"n": 1', b'"z": "\xff"'),
    "utf-16": VALID.decode().encode("utf-16"),
    "lone surrogate": VALID.replace(b'"hi"', rb'"\ud800"'),
    "control character": VALID.replace(b"hi", b"h\x00i"),
    "form": b"model=words&prompt=x",
    "huge key": VALID.replace(b'"5": 1', b'"' + b"5" * 100_000 + b'": 1'),
    "huge schema number": VALID.replace(b'"schema": {}', b'"schema": {"a": 1e999}'),
    "huge argument number": VALID.replace(b'"a": [1]', b'"a": [1e999]'),
}
# What the other path's body lacks is ignored there: only some are bad for both.
CHAT_ONLY = {
    "deep known",
    "deep objects",
    "deep schema",
    "huge schema number",
    "huge argument number",
}


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (400, 404, 413), answer.text
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(edge: Edge, path: str, name: str) -> None:
    if path == PATHS[1] and name in CHAT_ONLY:
        pytest.skip("the field is unknown here")
    check(await edge.http.post(path, content=HORRORS[name]))


async def test_duplicate_keys_are_fine(edge: Edge) -> None:
    body = b'{"model":"nope","model":"words","prompt":"x"}'
    assert (await edge.http.post(PATHS[1], content=body)).status_code == 200


async def test_any_content_type_is_json(edge: Edge) -> None:
    headers = {"content-type": "text/plain"}
    body = b'{"model":"words","prompt":"x"}'
    assert (await edge.http.post(PATHS[1], content=body, headers=headers)).status_code == 200


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(VALID)
    for _ in range(draw(st.integers(1, 4))):
        damage(draw, body)
    return bytes(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = [*sorted(json.loads(VALID)), "seed", "logprobs", "max_tokens", "tool_choice", "metadata"]
ODD = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6).map(
    lambda body: json.dumps({"model": "words", "prompt": "x", **body}).encode("utf-8", "replace")
)


@pytest.mark.parametrize("path", PATHS)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=damaged() | ODD | st.binary(max_size=64))
async def test_generated(edge: Edge, path: str, body: bytes) -> None:
    answer = await edge.http.post(path, content=body)
    assert answer.status_code in (200, 400, 404), (body, answer.text)
    if answer.status_code != 200 and answer.headers["content-type"] == "application/json":
        check(answer)

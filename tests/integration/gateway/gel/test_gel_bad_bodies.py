"""Bodies that no client of Gel would send: each gets a 4xx in its envelope, and never a 500."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.gel.gel_edge import EMBEDDINGS, RAG, TOKEN
from tests.integration.gateway.test_edge_bad_bodies import JSON

TYPE = {"content-type": "application/json"}
BODIES: dict[str, dict[str, Any]] = {
    RAG: {
        "context": {
            "query": "Astronomy",
            "variables": {"a": [1, {"b": 2}]},
            "globals": {"g": 1},
            "max_object_count": 5,
        },
        "model": "words",
        "query": "hi",
        "stream": False,
        "prompt": {
            "name": "mine",
            "custom": [
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {
                    "role": "assistant",
                    "content": "c",
                    "tool_calls": [
                        {
                            "id": "1",
                            "type": "function",
                            "function": {"name": "f", "arguments": "{}"},
                        }
                    ],
                },
                {"role": "tool", "content": "x", "tool_call_id": "1"},
            ],
        },
        "temperature": 0.5,
        "seed": 1,
        "logit_bias": {"5": 1},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [1]}}}],
    },
    EMBEDDINGS: {"inputs": ["a", "b"], "model": "m", "dimensions": 4, "user": "u"},
}
DEEP = 100_000


def horrors(valid: bytes) -> dict[str, bytes]:
    return {
        "array": b"[]",
        "number": b"5",
        "text": b'"x"',
        "null": b"null",
        "nothing": b"",
        "truncated": valid[: len(valid) // 2],
        "trailing": valid + b"x",
        "unclosed": b"[" * DEEP,
        "deep": b'{"context":' + b"[" * DEEP + b"]" * DEEP + b"}",
        "deep objects": b'{"inputs":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        "utf-16": valid.decode().encode("utf-16"),
        "invalid utf-8": valid.replace(b'"a"', b'"\xff"'),
        "lone surrogate": valid.replace(b'"a"', rb'"\ud800"'),
        "nan": valid[:-1] + b', "x": NaN}',
        "form": b"model=words&query=x",
    }


ONLY_RAG = {
    "deep variables": (b'{"b": 2}', b"[" * 400 + b"]" * 400),
    "huge variable": (b'{"b": 2}', b"9" * 5000),
    "huge float": (b'{"b": 2}', b"1e400"),
    "huge seed": (b'"seed": 1', b'"seed": ' + b"9" * 5000),
    "huge count": (b'"max_object_count": 5', b'"max_object_count": ' + b"9" * 5000),
    "large count": (b'"max_object_count": 5', b'"max_object_count": 4294967296'),
    "huge key": (b'"5": 1', b'"' + b"5" * 100_000 + b'": 1'),
    "deep parameters": (b'"a": [1]', b'"a": ' + b"[" * 900 + b"]" * 900),
    "true for a count": (b'"max_object_count": 5', b'"max_object_count": true'),
    "one for a boolean": (b'"stream": false', b'"stream": 1'),
    "text for a number": (b'"temperature": 0.5', b'"temperature": "0.5"'),
}


def check(answer: httpx.Response) -> None:
    assert answer.status_code in (400, 413), answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["message", "type"]
    assert body["type"] == "BadRequestError"
    assert body["message"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", horrors(b"{}"))
async def test_gels_horrors(edge: Edge, path: str, name: str) -> None:
    content = horrors(json.dumps(BODIES[path]).encode())[name]
    check(await edge.http.post(path, content=content, headers=TYPE))


@pytest.mark.parametrize("name", ONLY_RAG)
async def test_horrors_of_answers(edge: Edge, name: str) -> None:
    good, bad = ONLY_RAG[name]
    content = json.dumps(BODIES[RAG]).encode()
    assert content.count(good) == 1
    check(await edge.http.post(RAG, content=content.replace(good, bad), headers=TYPE))


class TestSmallEdge:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"max_body_bytes": 100}

    @pytest.mark.parametrize("path", BODIES)
    async def test_too_large(self, edge: Edge, path: str) -> None:
        answer = await edge.http.post(path, json=BODIES[path] | {"x": "x" * 100})
        assert answer.status_code == 413
        assert answer.json()["type"] == "BadRequestError"
        assert answer.headers["connection"] == "close"


async def test_what_is_good_is_good(edge: Edge) -> None:
    for path, body in BODIES.items():
        assert (await edge.http.post(path, json=body)).status_code == 200


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = [p for key, item in value.items() for p in _paths(item, (*path, key))]
    if isinstance(value, list):
        inner = [p for key, item in enumerate(value) for p in _paths(item, (*path, key))]
    return ([path] if path else []) + inner


@st.composite
def damaged(draw: st.DrawFn, path: str) -> bytes:
    """A good body in which some values were replaced, or removed."""
    body = json.loads(json.dumps(BODIES[path]))
    for where in draw(st.lists(st.sampled_from(_paths(BODIES[path])), min_size=1, max_size=3)):
        holder: Any = body
        try:
            for key in where[:-1]:
                holder = holder[key]
            if draw(st.booleans()):
                holder[where[-1]] = draw(JSON)
            else:
                del holder[where[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # it was replaced before
    return json.dumps(body).encode("utf-8", "replace")


@pytest.mark.parametrize("path", BODIES)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_gels_generated(edge: Edge, path: str, data: st.DataObject) -> None:
    content = data.draw(damaged(path) | st.binary(max_size=64))
    answer = await edge.http.post(path, content=content, headers=TYPE)
    assert answer.status_code in (200, 400), (content, answer.text)
    if answer.status_code == 400:
        check(answer)


SEGMENT = st.text(max_size=12)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    root=st.sampled_from(["branch", "db"]),
    rest=st.lists(SEGMENT | st.sampled_from(["ai", "ext", "rag", "main"]), max_size=5),
    raw=st.binary(max_size=4),
)
async def test_generated_paths(edge: Edge, root: str, rest: list[str], raw: bytes) -> None:
    escaped = "/".join("".join(f"%{b:02X}" for b in s.encode("utf-8", "replace")) for s in rest)
    path = f"/{root}/{escaped}" + "".join(f"%{b:02x}" for b in raw)
    answer = await edge.http.post(path, json=BODIES[RAG])
    assert answer.status_code in (200, 400, 401, 404), (path, answer.text)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    scheme=st.sampled_from(["Basic", "Bearer", "bearer pst_", "Basic ", "SCRAM-SHA-256"]),
    rest=st.binary(max_size=40) | st.just(TOKEN.encode()),
)
async def test_generated_credentials(edge: Edge, scheme: str, rest: bytes) -> None:
    clean = bytes(b for b in rest if b > 0x20 and b != 0x7F)
    credential = f"{scheme} ".encode() + clean
    answer = await edge.http.post(
        RAG, json=BODIES[RAG], headers={"authorization": credential.strip()}
    )
    assert answer.status_code in (200, 401), (credential, answer.text)
    assert (answer.status_code == 200) == (clean == TOKEN.encode() and scheme == "Bearer")

"""Generated bad input about vectors: never a 500, always the envelope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.stack import Platform
from tests.e2e.test_bad_input import GENERATED, anything, assert_refused_well

MODEL = "all-minilm-l6-v2"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {
        "model": MODEL,
        "input": "Hi",
        "encoding_format": "float",
        "dimensions": None,
        "user": "u",
        "normalize": True,
        "prompt_name": None,
    },
    "/v1/rerank": {
        "model": MODEL,
        "query": "Hi",
        "documents": ["a", {"text": "b"}],
        "top_n": 1,
        "return_documents": True,
        "max_tokens_per_doc": 8,
    },
    "search": {
        "query": "Hi",
        "max_num_results": 3,
        "filters": {"type": "eq", "key": "k", "value": "v"},
        "ranking_options": {"ranker": "auto", "score_threshold": 0.1},
    },
    "": {"name": "n", "metadata": {"k": "v"}},
}


@pytest.fixture(scope="module")
def client(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, headers=platform.headers(), timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def store(client: httpx.Client) -> Iterator[str]:
    path = f"/v1/vector_stores/{client.post('/v1/vector_stores', json={}).json()['id']}"
    yield path
    client.delete(path)


@st.composite
def wrong(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    route = draw(st.sampled_from(sorted(BODIES)))
    return route, draw(st.dictionaries(st.sampled_from(sorted(BODIES[route])), anything))


@GENERATED
@given(request=wrong())
def test_wrong_fields(client: httpx.Client, store: str, request: tuple[str, Any]) -> None:
    route, changes = request
    path = route if route.startswith("/") else f"{store}/{route}".rstrip("/")
    assert_refused_well(client.post(path, content=json.dumps(BODIES[route] | changes)))


# A collection's database may be one whose texts can't hold NUL: searches refuse it.
texts_of_any_kind = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@GENERATED
@given(texts=st.lists(texts_of_any_kind, max_size=4) | texts_of_any_kind)
def test_any_text_is_embedded_reranked_and_searched_for(
    client: httpx.Client, store: str, texts: Any
) -> None:
    lacking = not texts or not all(texts)
    documents = [texts] if isinstance(texts, str) else texts
    for path, body in (
        ("/v1/embeddings", {"model": MODEL, "input": texts}),
        ("/v1/rerank", {"model": MODEL, "query": "x", "documents": documents}),
        (f"{store}/search", {"query": texts}),
    ):
        answer = client.post(path, content=json.dumps(body))
        assert_refused_well(answer)
        assert answer.status_code == (400 if lacking else 200), answer.text


@GENERATED
@given(ids=st.lists(st.integers(-2, 40_000), max_size=6))
def test_any_token_ids(client: httpx.Client, ids: list[int]) -> None:
    answer = client.post("/v1/embeddings", json={"model": MODEL, "input": ids})
    assert_refused_well(answer)
    fine = bool(ids) and all(0 <= token < 30_522 for token in ids)
    assert answer.status_code == (200 if fine else 400), answer.text


@GENERATED
@given(
    key=st.text(min_size=1, max_size=8),
    kind=st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]),
    value=st.text(max_size=8) | st.integers(-(2**63), 2**63) | st.booleans() | st.floats(-9, 9),
)
def test_any_filter(client: httpx.Client, store: str, key: str, kind: str, value: Any) -> None:
    found = [value] if kind in ("in", "nin") else value
    filters = {"type": kind, "key": key, "value": found}
    body = json.dumps({"query": "x", "filters": filters})
    answer = client.post(f"{store}/search", content=body)
    assert_refused_well(answer)


@GENERATED
@given(
    method=st.sampled_from(["GET", "DELETE", "POST"]),
    name=st.text(min_size=1, max_size=10),
    rest=st.sampled_from(["", "/search", "/files", "/files/x", "/files/x/content"]),
)
def test_any_store(client: httpx.Client, method: str, name: str, rest: str) -> None:
    path = quote(name.encode("utf-8", "replace"), safe="")
    body = b'{"query":"x","file_id":"x"}' if method == "POST" else b""
    answer = client.request(method, f"/v1/vector_stores/{path}{rest}", content=body)
    assert_refused_well(answer)
    assert answer.status_code in (400, 404, 405), answer.text

"""Bodies, queries and paths about vectors that no SDK would send: a 4xx in the envelope, soon."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.edge_backend import CREATED
from tests.integration.gateway.odd_bodies import damage
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check

STORE = "/v1/vector_stores/vs_0"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {
        "model": "m",
        "input": ["a", "b"],
        "encoding_format": "base64",
        "dimensions": 4,
        "user": "u",
        "normalize": True,
        "prompt_name": "p",
    },
    "/v1/rerank": {
        "model": "m",
        "query": "q",
        "documents": ["a", {"text": "b"}],
        "top_n": 1,
        "return_documents": True,
        "max_tokens_per_doc": 5,
        "rank_fields": None,
        "max_chunks_per_doc": None,
    },
    "/v1/vector_stores": {
        "name": "n",
        "description": "d",
        "file_ids": [],
        "expires_after": {"anchor": "last_active_at", "days": 3},
        "chunking_strategy": {
            "type": "static",
            "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 10},
        },
        "metadata": {"k": "v"},
        "embedding_model": "m",
        "embedding_dimension": 4,
    },
    STORE: {
        "name": "n",
        "expires_after": {"anchor": "last_active_at", "days": 3},
        "metadata": {"k": "v"},
    },
    f"{STORE}/search": {
        "query": ["a", "b"],
        "max_num_results": 3,
        "filters": {
            "type": "and",
            "filters": [
                {"type": "in", "key": "k", "value": ["v", 1, True]},
                {"type": "lt", "key": "k", "value": 1.5},
            ],
        },
        "ranking_options": {"ranker": "auto", "score_threshold": 0.5},
        "rewrite_query": False,
    },
    f"{STORE}/files": {"file_id": "f", "attributes": {"k": 1}, "chunking_strategy": None},
}
GENERATED = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest_asyncio.fixture(loop_scope="module")
async def ready(edge: Edge) -> Edge:
    await edge.http.post("/v1/vector_stores", json={})
    kept = edge.vectors.retrieval.collections
    kept["tenants/default/collections/vs_0"].create_time.seconds = CREATED
    return edge


def settle(edge: Edge, answer: httpx.Response) -> None:
    assert answer.status_code in (200, 400, 404), answer.text
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        check(answer)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", ["array", "number", "null", "truncated", "nan", "invalid utf-8"])
async def test_horrors(ready: Edge, path: str, name: str) -> None:
    check(await ready.http.post(path, content=HORRORS[name]))


@pytest.mark.parametrize("path", BODIES)
async def test_deep(ready: Edge, path: str) -> None:
    for field in BODIES[path]:
        for opening, closing in ((b"[", b"]"), (b'{"filters":[', b"]}"), (b'{"a":', b"}")):
            for depth in (200, 100_000):
                inside = opening * depth + b"1" + closing * depth
                body = json.dumps(BODIES[path] | {field: "@"}).encode().replace(b'"@"', inside)
                answer = await ready.http.post(path, content=body)
                settle(ready, answer)


@pytest.mark.parametrize("depth", [10, 100, 200, 400, 900])
@pytest.mark.parametrize("leaf", ['{"type":"eq"}', '{"type":"nope"}', "5", '{"type":"eq","key":5}'])
async def test_a_filter_that_is_wrong_deep_inside(ready: Edge, depth: int, leaf: str) -> None:
    filters = '{"type":"and","filters":[' * depth + leaf + "]}" * depth
    body = f'{{"query":"x","filters":{filters}}}'
    answer = await ready.http.post(f"{STORE}/search", content=body)
    assert answer.status_code == 400
    check(answer)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    body = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        damage(draw, body)
    return bytes(body)


@st.composite
def wrong(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path, and a body for it with some fields changed or some bytes damaged."""
    path = draw(st.sampled_from(sorted(BODIES)))
    changes = draw(st.dictionaries(st.sampled_from(sorted(BODIES[path])), JSON, max_size=3))
    body = json.dumps(BODIES[path] | changes).encode("utf-8", "replace")
    return path, draw(st.just(body) | damaged(body) | st.binary(max_size=64))


@GENERATED
@given(request=wrong())
async def test_generated_bodies(ready: Edge, request: tuple[str, bytes]) -> None:
    path, body = request
    settle(ready, await ready.http.post(path, content=body))


FILTER = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["eq", "in", "and", "nope"])},
        optional={"key": st.text(max_size=4) | st.none(), "value": JSON},
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["and", "or", "eq"]), "filters": st.lists(inner, max_size=3)}
    ),
    max_leaves=6,
)


@GENERATED
@given(filters=FILTER)
async def test_generated_filters(ready: Edge, filters: dict[str, Any]) -> None:
    body = json.dumps({"query": "x", "filters": filters}).encode("utf-8", "replace")
    settle(ready, await ready.http.post(f"{STORE}/search", content=body))


NAMES = st.text(min_size=1, max_size=12).map(
    lambda text: quote(text.encode("utf-8", "replace"), safe="")
)
QUERIES = st.dictionaries(
    st.sampled_from(["limit", "order", "after", "before", "filter", "x"]),
    st.text(max_size=8) | st.integers().map(str),
    max_size=4,
)


@GENERATED
@given(
    method=st.sampled_from(["GET", "DELETE"]),
    store=NAMES,
    rest=st.just("") | NAMES.map("/files/{}".format) | NAMES.map("/files/{}/content".format),
)
async def test_generated_paths(ready: Edge, method: str, store: str, rest: str) -> None:
    answer = await ready.http.request(method, f"/v1/vector_stores/{store}{rest}")
    assert answer.status_code in (200, 400, 404, 405), answer.text
    assert answer.headers["content-type"] == "application/json"


@GENERATED
@given(path=st.sampled_from(["/v1/vector_stores", f"{STORE}/files"]), query=QUERIES)
async def test_generated_queries(ready: Edge, path: str, query: dict[str, str]) -> None:
    clean = {key: value.encode("utf-8", "replace").decode() for key, value in query.items()}
    settle(ready, await ready.http.get(path, params=clean))


@GENERATED
@given(query=st.binary(max_size=40))
async def test_generated_query_bytes(ready: Edge, query: bytes) -> None:
    escaped = quote(query, safe="=&%+;")
    settle(ready, await ready.http.get(f"/v1/vector_stores?{escaped}"))

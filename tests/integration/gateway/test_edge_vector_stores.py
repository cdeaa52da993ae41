"""Vector stores over real sockets: stores, their documents, searches, errors."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from penstock.retrieval.v1 import collection_pb2

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_streams import raw_request

STORES = "/v1/vector_stores"
WEEK = {"anchor": "last_active_at", "days": 7}
PLACE = "tenants/default/collections"


async def create(edge: Edge, **body: Any) -> dict[str, Any]:
    answer = await edge.http.post(STORES, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest_asyncio.fixture(loop_scope="module")
async def store(edge: Edge) -> str:
    """The path of a store with three documents."""
    made = await create(edge, name="facts")
    name = f"{PLACE}/{made['id']}"
    peer = edge.vectors.retrieval
    peer.put(name, "sky", "the sky is blue", planet="Earth", year=2023, deep={"a": 1}, tags=["x"])
    peer.put(name, "docs/mars", "the sky on Mars is red", planet="Mars", share=0.5, seen=True)
    peer.put(name, "sea", "the sea is deep")
    return f"{STORES}/{made['id']}"


def error_of(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


async def test_a_store_as_it_is_created(edge: Edge) -> None:
    made = await create(
        edge,
        name="facts",
        description="what is known",
        expires_after=WEEK,
        metadata={"team": "a"},
        chunking_strategy={
            "type": "static",
            "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 20},
        },
        embedding_model="minilm",
        embedding_dimension=4,
        file_ids=[],
    )
    created = made.pop("created_at")
    assert made.pop("id").startswith("vs_")
    assert made == {
        "object": "vector_store",
        "name": "facts",
        "usage_bytes": 0,
        "file_counts": {
            "in_progress": 0,
            "completed": 0,
            "cancelled": 0,
            "failed": 0,
            "total": 0,
        },
        "status": "completed",
        "expires_after": WEEK,
        "expires_at": created + 7 * 24 * 60 * 60,
        "last_active_at": created,
        "metadata": {"team": "a"},
        "embedding_model": "minilm",
        "description": "what is known",
    }
    sent = edge.vectors.retrieval.requests[-1]
    assert sent.parent == "tenants/default"
    assert sent.collection.display_name == "facts"
    assert (sent.collection.embedding_model, sent.collection.dimensions) == ("minilm", 4)
    assert sent.collection.expire_after.seconds == 7 * 24 * 60 * 60
    kept = {"team": "a", "penstock.description": "what is known"}
    assert dict(sent.collection.metadata) == kept
    chunking = sent.collection.chunking
    assert (chunking.max_tokens, chunking.overlap_tokens) == (200, 20)
    assert edge.vectors.retrieval.metadata[-1]["authorization"] == "Bearer sk-test"


async def test_a_store_without_anything(edge: Edge) -> None:
    nulls = ("name", "description", "expires_after", "metadata", "chunking_strategy", "file_ids")
    made = await create(edge, **dict.fromkeys(nulls))
    assert made["status"] == "completed"
    assert (made["expires_after"], made["expires_at"]) == (None, None)
    assert made["metadata"] == {}
    assert "description" not in made
    assert not edge.vectors.retrieval.requests[-1].collection.HasField("chunking")
    auto = await create(edge, chunking_strategy={"type": "auto"})
    assert auto["object"] == "vector_store"


async def test_get_update_delete(edge: Edge, store: str) -> None:
    path = store
    assert (await edge.http.get(path)).json()["file_counts"]["total"] == 3
    got = (await edge.http.post(path, json={"metadata": {"a": "1"}, "expires_after": WEEK})).json()
    assert (got["name"], got["metadata"], got["expires_after"]) == ("facts", {"a": "1"}, WEEK)
    got = (await edge.http.post(path, json={"name": "new", "metadata": {}})).json()
    assert (got["name"], got["metadata"], got["expires_after"]) == ("new", {}, WEEK)
    before = len(edge.vectors.retrieval.requests)
    got = (await edge.http.post(path, json={"name": None})).json()
    assert got["name"] == "new"
    assert len(edge.vectors.retrieval.requests) == before + 1  # nothing to change: only read
    answer = await edge.http.delete(path)
    store_id = path.rpartition("/")[2]
    assert answer.json() == {"id": store_id, "object": "vector_store.deleted", "deleted": True}
    for gone in (
        await edge.http.get(path),
        await edge.http.post(path, json={"name": "x"}),
        await edge.http.delete(path),
        await edge.http.post(f"{path}/search", json={"query": "x"}),
        await edge.http.get(f"{path}/files"),
        await edge.http.post(f"{path}/files", json={"file_id": "file-1"}),
    ):
        assert error_of(gone, 404)["param"] == "vector_store_id"


@pytest.mark.parametrize(("conflicts", "status"), [(2, 200), (3, 409)])
async def test_an_update_that_others_overtake_is_made_again(
    edge: Edge, store: str, conflicts: int, status: int
) -> None:
    edge.vectors.retrieval.conflicts = conflicts
    answer = await edge.http.post(store, json={"metadata": {"a": "1"}})
    assert answer.status_code == status


async def test_pages(edge: Edge) -> None:
    ids = [(await create(edge, name=str(number)))["id"] for number in range(5)][::-1]

    async def page(**query: Any) -> tuple[list[str], bool]:
        got = (await edge.http.get(STORES, params=query)).json()
        found = [item["id"] for item in got["data"]]
        assert got["object"] == "list"
        assert (got["first_id"], got["last_id"]) == (
            (found[0], found[-1]) if found else (None, None)
        )
        return found, got["has_more"]

    assert await page() == (ids, False)
    assert await page(limit=2) == (ids[:2], True)
    assert await page(limit=2, after=ids[1]) == (ids[2:4], True)
    assert await page(limit=2, after=ids[3]) == (ids[4:], False)
    assert await page(after=ids[4]) == ([], False)
    assert await page(limit=2, order="asc") == (ids[:2:-1], True)
    assert await page(limit=2, before=ids[3]) == (ids[1:3], True)
    assert await page(limit=2, before=ids[2]) == (ids[:2], False)
    assert await page(limit=2, order="asc", before=ids[1]) == (ids[3:1:-1], True)


async def test_files(edge: Edge, store: str) -> None:
    got = (await edge.http.get(f"{store}/files", params={"order": "asc"})).json()
    assert [item["id"] for item in got["data"]] == ["sky", "docs/mars", "sea"]
    assert got["data"][0] == {
        "id": "sky",
        "object": "vector_store.file",
        "created_at": got["data"][0]["created_at"],
        "vector_store_id": store.rpartition("/")[2],
        "status": "completed",
        "last_error": None,
        "usage_bytes": 2 * 8 * 4,
        "attributes": {"planet": "Earth", "year": 2023},
        "chunking_strategy": {"type": "other"},
    }
    assert got["data"][1]["attributes"] == {"planet": "Mars", "share": 0.5, "seen": True}
    one = (await edge.http.get(f"{store}/files", params={"limit": 1, "after": "sea"})).json()
    assert ([item["id"] for item in one["data"]], one["has_more"]) == (["docs/mars"], True)
    for state, count in (("completed", 3), ("failed", 0), ("in_progress", 0), ("cancelled", 0)):
        got = (await edge.http.get(f"{store}/files", params={"filter": state})).json()
        assert len(got["data"]) == count
    for path in ("docs/mars", "docs%2Fmars"):
        assert (await edge.http.get(f"{store}/files/{path}")).json()["id"] == "docs/mars"
        content = (await edge.http.get(f"{store}/files/{path}/content")).json()
        assert content == {
            "object": "vector_store.file_content.page",
            "data": [{"type": "text", "text": "the sky on Mars is red"}],
            "has_more": False,
            "next_page": None,
        }
    answer = await edge.http.delete(f"{store}/files/docs/mars")
    assert answer.json() == {
        "id": "docs/mars",
        "object": "vector_store.file.deleted",
        "deleted": True,
    }
    for gone in (
        await edge.http.get(f"{store}/files/docs/mars"),
        await edge.http.get(f"{store}/files/docs/mars/content"),
        await edge.http.delete(f"{store}/files/docs/mars"),
    ):
        assert error_of(gone, 404)["param"] == "file_id"


async def test_an_id_that_ends_like_the_route_of_its_text(edge: Edge, store: str) -> None:
    name = f"{PLACE}/{store.rpartition('/')[2]}"
    edge.vectors.retrieval.put(name, "a/content", "inner")
    path = f"{store}/files/a%2Fcontent"
    assert (await edge.http.get(path)).json()["id"] == "a/content"
    assert (await edge.http.get(f"{path}/content")).json()["data"][0]["text"] == "inner"
    answer = await edge.http.delete(f"{store}/files/a/content")
    assert error_of(answer, 405)["code"] == "method_not_supported"
    assert answer.headers["allow"] == "GET"
    assert (await edge.http.delete(path)).json()["deleted"] is True


async def test_a_file_to_attach_must_be_named(edge: Edge, store: str) -> None:
    error = error_of(await edge.http.post(f"{store}/files", json={}))
    assert (error["param"], error["code"]) == ("file_id", "missing_required_parameter")


async def test_search(edge: Edge, store: str) -> None:
    answer = await edge.http.post(f"{store}/search", json={"query": "sky Mars"})
    assert answer.json() == {
        "object": "vector_store.search_results.page",
        "search_query": ["sky Mars"],
        "data": [
            {
                "file_id": "docs/mars",
                "filename": "docs/mars.md",
                "score": 1.0,
                "attributes": {"planet": "Mars", "share": 0.5, "seen": True},
                "content": [{"type": "text", "text": "the sky on Mars is red"}],
            },
            {
                "file_id": "sky",
                "filename": "sky.md",
                "score": 0.5,
                "attributes": {"planet": "Earth", "year": 2023},
                "content": [{"type": "text", "text": "the sky is blue"}],
            },
        ],
        "has_more": False,
        "next_page": None,
    }
    sent = edge.vectors.retrieval.requests[-1]
    assert not sent.HasField("top_k")
    assert not sent.HasField("min_score")
    assert not sent.HasField("reranking")
    assert not sent.HasField("filter")


async def test_several_queries_are_merged_by_the_best_score(edge: Edge, store: str) -> None:
    body = {"query": ["sky Mars", "sea", "sky"], "max_num_results": 2}
    got = (await edge.http.post(f"{store}/search", json=body)).json()
    assert got["search_query"] == ["sky Mars", "sea", "sky"]
    assert [(item["file_id"], item["score"]) for item in got["data"]] == [
        ("docs/mars", 1.0),
        ("sky", 1.0),
    ]
    body["max_num_results"] = 50
    got = (await edge.http.post(f"{store}/search", json=body)).json()
    assert sorted(item["file_id"] for item in got["data"]) == ["docs/mars", "sea", "sky"]


async def test_what_a_search_sends(edge: Edge, store: str) -> None:
    body = {
        "query": "sky",
        "max_num_results": 3,
        "rewrite_query": False,
        "ranking_options": {"ranker": "my-reranker", "score_threshold": 0.25},
        "filters": {
            "type": "and",
            "filters": [
                {"type": "eq", "key": "planet", "value": "Mars"},
                {
                    "type": "or",
                    "filters": [
                        {"type": "gte", "key": "year", "value": 2000},
                        {"type": "nin", "key": "year", "value": [1, 2.5, 2**60]},
                    ],
                },
                {"type": "ne", "key": "seen", "value": False},
            ],
        },
    }
    assert (await edge.http.post(f"{store}/search", json=body)).status_code == 200
    sent = edge.vectors.retrieval.requests[-1]
    assert (sent.top_k, sent.min_score, sent.reranking.model) == (3, 0.25, "my-reranker")

    def comparison(key: str, operator: str, value: Any) -> dict[str, Any]:
        word = f"OPERATOR_{operator}"
        return {"comparison": {"property": key, "operator": word, "value": value}}

    assert json_format.MessageToDict(sent.filter) == {
        "allOf": {
            "filters": [
                comparison("planet", "EQUAL", "Mars"),
                {
                    "anyOf": {
                        "filters": [
                            comparison("year", "GREATER_OR_EQUAL", 2000.0),
                            comparison("year", "NOT_IN", [1.0, 2.5, str(2**60)]),
                        ]
                    }
                },
                comparison("seen", "NOT_EQUAL", False),
            ]
        }
    }
    for ranker in ("none", "auto", "default-2024-11-15", None):
        body = {"query": "sky", "ranking_options": {"ranker": ranker}}
        assert (await edge.http.post(f"{store}/search", json=body)).status_code == 200
        assert not edge.vectors.retrieval.requests[-1].HasField("reranking")


EQ = {"type": "eq", "key": "a", "value": 1}


def nested(depth: int) -> dict[str, Any]:
    found = EQ
    for _ in range(depth - 1):
        found = {"type": "and", "filters": [found]}
    return found


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"query": ""}, "query", "string_below_min_length"),
        ({"query": []}, "query", "empty_array"),
        ({"query": ["a", ""]}, "query[1]", "string_below_min_length"),
        ({"query": ["a"] * 33}, "query", "array_above_max_length"),
        ({"query": 1}, "query", "invalid_type"),
        ({"max_num_results": 0}, "max_num_results", "integer_below_min_value"),
        ({"max_num_results": 51}, "max_num_results", "integer_above_max_value"),
        ({"rewrite_query": True}, "rewrite_query", "unsupported_parameter"),
        (
            {"ranking_options": {"score_threshold": 1.5}},
            "ranking_options.score_threshold",
            "decimal_above_max_value",
        ),
        ({"filters": {"type": "like"}}, "filters.type", "invalid_value"),
        ({"filters": {"type": "eq", "value": 1}}, "filters.key", "missing_required_parameter"),
        ({"filters": {"type": "eq", "key": "a"}}, "filters.value", "missing_required_parameter"),
        ({"filters": {"type": "or"}}, "filters.filters", "missing_required_parameter"),
        ({"filters": {"type": "or", "filters": []}}, "filters.filters", "empty_array"),
        (
            {"filters": {"type": "and", "filters": [EQ, {"type": "eq", "key": "a"}]}},
            "filters.filters[1].value",
            "missing_required_parameter",
        ),
        ({"filters": {**EQ, "value": [1]}}, "filters.value", "invalid_type"),
        ({"filters": {**EQ, "type": "in"}}, "filters.value", "invalid_type"),
        ({"filters": {**EQ, "value": {}}}, "filters.value", "invalid_type"),
        ({"filters": {**EQ, "value": 2**70}}, "filters.value", "invalid_value"),
        ({"filters": nested(17)}, "filters" + ".filters[0]" * 16, "invalid_value"),
        ({"query": "fails-INVALID_ARGUMENT-text"}, "query", "invalid_value"),
        ({"query": "fails-INVALID_ARGUMENT-top_k"}, "max_num_results", "invalid_value"),
        (
            {"query": "fails-INVALID_ARGUMENT-filter.all_of.filters[2].comparison.value"},
            "filters.filters[2].value",
            "invalid_value",
        ),
        (
            {"query": "fails-INVALID_ARGUMENT-filter.comparison.property"},
            "filters.key",
            "invalid_value",
        ),
        ({"query": "fails-CONTEXT_LENGTH_EXCEEDED"}, "query", "context_length_exceeded"),
    ],
)
async def test_searches_refused(
    edge: Edge, store: str, changes: dict[str, Any], param: str, code: str
) -> None:
    body = {"query": "sky", **changes}
    error = error_of(await edge.http.post(f"{store}/search", content=json.dumps(body)))
    assert (error["param"], error["code"]) == (param, code), error


async def test_filters_nest_sixteen_deep(edge: Edge, store: str) -> None:
    body = {"query": "sky", "filters": nested(16)}
    assert (await edge.http.post(f"{store}/search", json=body)).status_code == 200


async def test_an_unknown_reranker_is_404(edge: Edge, store: str) -> None:
    body = {"query": "fails-MODEL_NOT_FOUND-reranking.model"}
    error = error_of(await edge.http.post(f"{store}/search", json=body), 404)
    assert (error["param"], error["code"]) == ("ranking_options.ranker", "model_not_found")


SIZES = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 101}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": 5}, "name"),
        ({"metadata": {"k": 5}}, "metadata.k"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(16)}, "description": "d"}, "metadata"),
        ({"metadata": {"penstock.x": "y"}}, "metadata"),
        ({"expires_after": {"days": 1}}, "expires_after.anchor"),
        ({"expires_after": {**WEEK, "days": 0}}, "expires_after.days"),
        ({"expires_after": {**WEEK, "anchor": "created_at"}}, "expires_after.anchor"),
        ({"chunking_strategy": {"type": "static"}}, "chunking_strategy.static"),
        ({"chunking_strategy": {"type": "other"}}, "chunking_strategy.type"),
        (
            {"chunking_strategy": {"type": "static", "static": SIZES}},
            "chunking_strategy.static.chunk_overlap_tokens",
        ),
        ({"embedding_dimension": 0}, "embedding_dimension"),
        ({"name": "fails-INVALID_ARGUMENT-collection.display_name"}, "name"),
        ({"name": "fails-INVALID_ARGUMENT-collection.dimensions"}, "embedding_dimension"),
        ({"name": "fails-INVALID_ARGUMENT-collection.expire_after"}, "expires_after"),
        (
            {"name": "fails-INVALID_ARGUMENT-collection.chunking.max_tokens"},
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
    ],
)
async def test_creations_refused(edge: Edge, body: dict[str, Any], param: str) -> None:
    assert error_of(await edge.http.post(STORES, json=body))["param"] == param


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=" + "9" * 30, "limit"),
        ("order=up", "order"),
        ("after=a&before=b", "before"),
        ("after=nobody", "after"),
        ("before=nobody", "before"),
    ],
)
async def test_queries_refused(edge: Edge, store: str, query: str, param: str) -> None:
    for path in (STORES, f"{store}/files"):
        assert error_of(await edge.http.get(f"{path}?{query}"))["param"] == param
    assert error_of(await edge.http.get(f"{store}/files?filter=x"))["param"] == "filter"


async def test_expiry(edge: Edge) -> None:
    peer = edge.vectors.retrieval
    made = await create(edge, name="x", expires_after=WEEK)
    path = f"{STORES}/{made['id']}"
    collection = peer.collections[f"{PLACE}/{made['id']}"]
    collection.last_search_time.seconds = searched = collection.create_time.seconds + 60
    peer.expires(collection)
    got = (await edge.http.get(path)).json()
    assert (got["status"], got["last_active_at"]) == ("completed", searched)
    assert got["expires_at"] == searched + 7 * 24 * 60 * 60
    got = (await edge.http.post(path, json={"expires_after": {**WEEK, "days": 1}})).json()
    assert (got["expires_after"]["days"], got["expires_at"]) == (1, searched + 24 * 60 * 60)
    assert list(peer.requests[-1].update_mask.paths) == ["expire_after"]
    got = (await edge.http.post(path, json={"expires_after": None})).json()
    assert got["expires_after"]["days"] == 1, "null is absent"
    before = len(peer.requests)
    assert (await edge.http.post(f"{path}/search", json={"query": "x"})).status_code == 200
    assert len(peer.requests) == before + 1


@pytest.mark.parametrize(
    ("expires", "days"),
    [({"expire_after": Duration(seconds=1)}, 1), ({"expire_after": Duration(seconds=86401)}, 2)],
)
async def test_days_are_whole_ones(edge: Edge, expires: dict[str, Any], days: int) -> None:
    made = await create(edge)
    collection = edge.vectors.retrieval.collections[f"{PLACE}/{made['id']}"]
    collection.MergeFrom(collection_pb2.Collection(**expires))
    got = (await edge.http.get(f"{STORES}/{made['id']}")).json()
    assert got["expires_after"] == {"anchor": "last_active_at", "days": days}


async def test_an_end_that_was_set_elsewhere_is_shown(edge: Edge) -> None:
    made = await create(edge)
    edge.vectors.retrieval.collections[f"{PLACE}/{made['id']}"].expire_time.seconds = 2**32
    got = (await edge.http.get(f"{STORES}/{made['id']}")).json()
    assert (got["expires_after"], got["expires_at"]) == (None, 2**32)


async def test_a_client_that_leaves_ends_every_search(edge: Edge, store: str) -> None:
    peer = edge.vectors.retrieval
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    body: dict[str, object] = {"query": ["waiting", "waiting", "sky"]}
    writer.write(raw_request(body, f"{store}/search"))
    await edge.backend.until(lambda: peer.live == 2)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)
    assert await reader.read() == b""


async def test_one_search_that_fails_ends_the_others(edge: Edge, store: str) -> None:
    peer = edge.vectors.retrieval
    body = {"query": ["waiting", "fails-INVALID_ARGUMENT-text"]}
    assert error_of(await edge.http.post(f"{store}/search", json=body))["param"] == "query"
    await edge.backend.until(lambda: peer.live == 0)


async def test_a_full_queue_is_503(edge: Edge, store: str) -> None:
    error = error_of(await edge.http.post(STORES, json={"name": "fails-QUEUE_FULL"}), 503)
    assert error["code"] == "queue_full"


TENANTS = {
    "one": (["one"], "one"),
    "two": (["two", "one"], "two"),
    "all": (["*"], "default"),
    "none": ([], "default"),
    "late": (["*", "three"], "three"),
}


@pytest.mark.parametrize("token", TENANTS)
async def test_stores_are_those_of_the_first_tenant(
    edge: Edge, edge_folder: Path, token: str
) -> None:
    entries = [
        {
            "id": name,
            "sha256": hashlib.sha256(name.encode()).hexdigest(),
            "roles": ["user"],
            "tenants": tenants,
        }
        for name, (tenants, _) in TENANTS.items()
    ]
    (edge_folder / "tokens.json").write_text(json.dumps({"tokens": entries}))
    headers = {"authorization": f"Bearer {token}"}
    made = (await edge.http.post(STORES, json={"name": "mine"}, headers=headers)).json()
    parent = f"tenants/{TENANTS[token][1]}"
    assert f"{parent}/collections/{made['id']}" in edge.vectors.retrieval.collections
    listed = (await edge.http.get(STORES, headers=headers)).json()
    assert [item["id"] for item in listed["data"]] == [made["id"]]
    assert edge.vectors.retrieval.requests[-1].parent == parent
    if parent != "tenants/default":
        error_of(await edge.http.get(f"{STORES}/{made['id']}"), 404)
        assert (await edge.http.get(STORES)).json()["data"] == []


async def test_methods_and_credentials(edge: Edge, store: str) -> None:
    for path, allowed in (
        (STORES, {"GET", "POST"}),
        (store, {"GET", "POST", "DELETE"}),
        (f"{store}/search", {"POST"}),
        (f"{store}/files", {"GET", "POST"}),
        (f"{store}/files/sky", {"GET", "DELETE"}),
    ):
        answer = await edge.http.put(path, json={})
        error_of(answer, 405)
        assert {part.strip() for part in answer.headers["allow"].split(",")} - {"HEAD"} == allowed
        async with httpx.AsyncClient(base_url=edge.http.base_url) as stranger:
            error_of(await stranger.post(path, json={}), 405 if "POST" not in allowed else 401)

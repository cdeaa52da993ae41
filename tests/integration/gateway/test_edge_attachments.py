"""Uploaded files in vector stores: read from one service, put into another."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import json_format
from penstock.training.v1 import file_pb2

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_vector_stores import PLACE, STORES, create, error_of
from tests.integration.gateway.training_peer import PIECE

SKY = b"the sky on Mars is red"


@pytest_asyncio.fixture(loop_scope="module")
async def store(edge: Edge) -> str:
    made = await create(edge, name="facts")
    return f"{STORES}/{made['id']}"


async def attach(edge: Edge, store: str, file_id: str, **more: Any) -> Any:
    return await edge.http.post(f"{store}/files", json={"file_id": file_id, **more})


async def test_a_file_becomes_a_document_with_its_id(edge: Edge, store: str) -> None:
    file_id = edge.vectors.training.put(SKY, "mars.md")
    attributes = {"planet": "Mars", "year": 2023, "seen": True, "share": 0.5}
    answer = await attach(edge, store, file_id, attributes=attributes)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    store_id = store.rpartition("/")[2]
    assert (made["id"], made["object"]) == (file_id, "vector_store.file")
    assert (made["status"], made["last_error"]) == ("completed", None)
    assert made["vector_store_id"] == store_id
    assert made["attributes"] == attributes
    document = edge.vectors.retrieval.requests[-2].document
    assert (document.name, document.title, document.data) == (file_id, "mars.md", SKY)
    assert (document.mime_type, document.source_uri) == ("text/markdown", f"files/{file_id}")
    assert edge.vectors.retrieval.requests[-3].start.collection == f"{PLACE}/{store_id}"
    for metadata in (edge.vectors.training.metadata[-1], edge.vectors.retrieval.metadata[-2]):
        assert metadata["authorization"] == "Bearer sk-test"
    assert (await edge.http.get(f"{store}/files/{file_id}")).json() == made
    found = (await edge.http.post(f"{store}/search", json={"query": "Mars"})).json()["data"]
    assert [(hit["file_id"], hit["filename"]) for hit in found] == [(file_id, "mars.md")]


async def test_detaching_leaves_the_file(edge: Edge, store: str) -> None:
    file_id = edge.vectors.training.put(SKY)
    await attach(edge, store, file_id)
    gone = (await edge.http.delete(f"{store}/files/{file_id}")).json()
    assert gone["deleted"] is True
    assert (await edge.http.get(f"/v1/files/{file_id}")).status_code == 200


@pytest.mark.parametrize(
    ("filename", "mime_type", "sent"),
    [
        ("a.md", "", "text/markdown"),
        ("A.HTM", "text/plain", "text/html"),
        ("a.pdf", "application/pdf", "application/pdf"),
        ("a.txt", "", "text/plain"),
        ("a.jsonl", "application/jsonl", ""),
        ("a", "text/html", "text/html"),
        ("md", "", ""),
    ],
)
async def test_types(edge: Edge, store: str, filename: str, mime_type: str, sent: str) -> None:
    file_id = edge.vectors.training.put(SKY, filename, mime_type=mime_type)
    assert (await attach(edge, store, file_id)).status_code == 200
    assert edge.vectors.retrieval.requests[-2].document.mime_type == sent


async def test_numbers_of_attributes(edge: Edge, store: str) -> None:
    file_id = edge.vectors.training.put(SKY)
    attributes: dict[str, object] = {"small": 2**53, "large": 2**60, "least": -(2**63)}
    assert (await attach(edge, store, file_id, attributes=attributes)).status_code == 200
    properties = json_format.MessageToDict(edge.vectors.retrieval.requests[-2].document.properties)
    assert properties == {"small": 2**53, "large": str(2**60), "least": str(-(2**63))}
    answer = await attach(edge, store, file_id, attributes={"é": 10**400})
    assert error_of(answer)["param"] == "attributes.\\xe9"


async def test_a_large_file_comes_in_pieces(edge: Edge, store: str) -> None:
    data = b"x" * (5 * PIECE + 1)
    file_id = edge.vectors.training.put(data)
    assert (await attach(edge, store, file_id)).status_code == 200
    assert edge.vectors.retrieval.requests[-2].document.data == data


@pytest.mark.parametrize("file_id", ["file-none", "a/b", "\u0000"])
async def test_unknown_files(edge: Edge, store: str, file_id: str) -> None:
    error = error_of(await attach(edge, store, file_id), 404)
    assert (error["param"], error["code"]) == ("file_id", None)
    assert error["message"].startswith("No such File object: ")


async def test_unknown_stores_come_first(edge: Edge) -> None:
    error = error_of(await attach(edge, f"{STORES}/vs_none", "file-none"), 404)
    assert error["param"] == "vector_store_id"


async def test_files_that_are_too_large_or_empty(edge: Edge, store: str) -> None:
    peer = edge.vectors.training
    file_id = peer.put(b"x")
    peer.files[f"files/{file_id}"].size_bytes = 32 * 1024 * 1024 + 1
    error = error_of(await attach(edge, store, file_id))
    assert error["param"] == "file_id"
    assert "32 MiB" in error["message"]
    error = error_of(await attach(edge, store, peer.put(b"")))
    assert error["param"] == "file_id"
    assert "empty" in error["message"]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("document.text", "file_id"),
        ("document.mime_type", "file_id"),
        ("document", "file_id"),
        ("document.properties.year", "attributes.year"),
        ("document.properties", "attributes"),
    ],
)
async def test_what_can_not_be_read(edge: Edge, store: str, path: str, param: str) -> None:
    file_id = edge.vectors.training.put(f"reject-INVALID_ARGUMENT-{path}".encode())
    error = error_of(await attach(edge, store, file_id))
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize("filename", ["short", "long", "breaks"])
async def test_a_broken_download_stores_nothing(edge: Edge, store: str, filename: str) -> None:
    file_id = edge.vectors.training.put(SKY, filename)
    error_of(await attach(edge, store, file_id), 500 if filename == "breaks" else 503)
    assert not edge.vectors.retrieval.documents


async def test_an_upsert_that_is_cut_short(edge: Edge, store: str) -> None:
    error_of(await attach(edge, store, edge.vectors.training.put(b"cut")), 503)


async def test_all_files_of_a_store_are_split_alike(edge: Edge) -> None:
    sizes = {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 20}
    strategy: dict[str, Any] = {"type": "static", "static": sizes}
    made = await create(edge, chunking_strategy=strategy)
    store = f"{STORES}/{made['id']}"
    file_id = edge.vectors.training.put(SKY)
    for same in (None, {"type": "auto"}, strategy):
        answer = await attach(edge, store, file_id, chunking_strategy=same)
        assert answer.status_code == 200, answer.text
    other = {"type": "static", "static": {**sizes, "max_chunk_size_tokens": 300}}
    error = error_of(await attach(edge, store, file_id, chunking_strategy=other))
    assert (error["param"], error["code"]) == ("chunking_strategy", "unsupported_parameter")


async def test_a_store_that_begins_with_files(edge: Edge) -> None:
    ids = [edge.vectors.training.put(SKY, f"{number}.md") for number in range(3)]
    made = await create(edge, name="all", file_ids=[*ids, ids[0]])
    assert made["file_counts"]["completed"] == 3
    listed = (await edge.http.get(f"{STORES}/{made['id']}/files?order=asc")).json()
    assert [item["id"] for item in listed["data"]] == ids


async def test_a_store_is_not_created_for_files_that_can_not_be_read(edge: Edge) -> None:
    peer = edge.vectors.training
    good, bad = peer.put(SKY), peer.put(b"reject-INVALID_ARGUMENT-document.text")
    answer = await edge.http.post(STORES, json={"file_ids": [good, "file-none"]})
    assert error_of(answer, 404)["param"] == "file_ids[1]"
    assert not edge.vectors.retrieval.collections
    answer = await edge.http.post(STORES, json={"file_ids": [good, bad]})
    assert error_of(answer)["param"] == "file_ids[1]"
    assert not edge.vectors.retrieval.collections


async def test_too_many_files(edge: Edge) -> None:
    error = error_of(await edge.http.post(STORES, json={"file_ids": ["f"] * 101}))
    assert error["param"] == "file_ids"


async def test_another_purpose_will_do(edge: Edge, store: str) -> None:
    file_id = edge.vectors.training.put(SKY, purpose=file_pb2.FILE_PURPOSE_USER_DATA)
    assert (await attach(edge, store, file_id)).status_code == 200

"""Embeddings and rerank over real sockets: base64, numbers, errors, disconnects, headers."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from typing import Any

import numpy as np
import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.embedding_peer import DIMENSIONS, vector
from tests.integration.gateway.test_edge_streams import raw_request

EMBED, RERANK = "/v1/embeddings", "/v1/rerank"
DOCUMENTS = ["a b", {"text": "x y"}, "x b"]


def body(**more: Any) -> dict[str, Any]:
    return {"model": "fill", "input": "some words", **more}


async def test_numbers_are_the_floats_that_the_service_sent(edge: Edge) -> None:
    answer = await edge.http.post(EMBED, json=body())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    got = answer.json()
    assert list(got) == ["object", "data", "model", "usage"]
    assert got["object"] == "list"
    assert got["model"] == "fill"
    assert got["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    (item,) = got["data"]
    assert list(item) == ["object", "index", "embedding"]
    assert (item["object"], item["index"]) == ("embedding", 0)
    values = np.array(item["embedding"], dtype="<f4")
    assert values.tobytes() == vector("some words").tobytes()
    # The shortest digits of a float32: at most nine significant ones.
    digits = [text.strip("-").replace(".", "").lstrip("0") for text in _numbers_of(answer.text)]
    assert max(map(len, digits)) <= 9


def _numbers_of(text: str) -> list[str]:
    inside = text[text.index("[", text.index('"embedding":[')) + 1 :]
    return inside[: inside.index("]")].split(",")


async def test_base64_is_the_bytes_that_the_service_sent(edge: Edge) -> None:
    answer = await edge.http.post(EMBED, json=body(input=["a", "b"], encoding_format="base64"))
    data = answer.json()["data"]
    assert [item["index"] for item in data] == [0, 1]
    for item, seed in zip(data, "ab", strict=True):
        raw = base64.b64decode(item["embedding"], validate=True)
        assert raw == vector(seed).tobytes()
        assert len(struct.unpack(f"<{DIMENSIONS}f", raw)) == DIMENSIONS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("x", ["x"]),
        (["x", "y", "x"], ["x", "y", "x"]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["\u0000 ", "😀"], ["\u0000 ", "😀"]),
    ],
)
async def test_inputs(edge: Edge, given: Any, expected: list[Any]) -> None:
    answer = await edge.http.post(EMBED, json=body(input=given))
    assert answer.status_code == 200
    sent = edge.vectors.embedding.requests[-1].inputs
    assert [item.text or list(item.token_ids.ids) for item in sent] == expected
    assert len(answer.json()["data"]) == len(expected)


async def test_what_travels(edge: Edge) -> None:
    request = body(dimensions=3, user="u", normalize=False, prompt_name="query", unknown=[1])
    answer = await edge.http.post(EMBED, json=request, headers={"x-request-id": "r-1"})
    assert len(answer.json()["data"][0]["embedding"]) == 3
    sent = edge.vectors.embedding.requests[-1]
    assert (sent.dimensions, sent.user, sent.prompt_name) == (3, "u", "query")
    assert sent.HasField("normalize")
    assert sent.normalize is False
    assert sent.request_id == "r-1"
    assert edge.vectors.embedding.metadata[-1]["authorization"] == "Bearer sk-test"
    nulls = dict.fromkeys(("dimensions", "user", "normalize", "prompt_name", "encoding_format"))
    assert (await edge.http.post(EMBED, json=body(**nulls))).status_code == 200
    sent = edge.vectors.embedding.requests[-1]
    assert not sent.HasField("dimensions")
    assert not sent.HasField("normalize")
    assert sent.truncation == 0


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input": ""}, "input", "string_below_min_length"),
        ({"input": []}, "input", "empty_array"),
        ({"input": ["a", "b", ""]}, "input[2]", "string_below_min_length"),
        ({"input": [[1], []]}, "input[1]", "empty_array"),
        ({"input": ["x"] * 2049}, "input", "array_above_max_length"),
        ({"input": [1] * 2049}, "input", "array_above_max_length"),
        ({"input": ["a", 1]}, "input[1]", "invalid_type"),
        ({"input": [1, [1]]}, "input[1]", "invalid_type"),
        ({"input": [[1], "a"]}, "input[1]", "invalid_type"),
        ({"input": [[7] * 2**19] * 3}, "input", "array_above_max_length"),
        ({"input": [True]}, "input[0]", "invalid_type"),
        ({"input": [-1]}, "input[0]", "integer_below_min_value"),
        ({"input": [[1, 2**31]]}, "input[0][1]", "integer_above_max_value"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": None}, "input", "invalid_type"),
        ({"input": {"text": "x"}}, "input", "invalid_type"),
        ({"encoding_format": "bytes"}, "encoding_format", "invalid_value"),
        ({"encoding_format": 1}, "encoding_format", "invalid_type"),
        ({"dimensions": 0}, "dimensions", "integer_below_min_value"),
        ({"dimensions": 1.5}, "dimensions", "invalid_type"),
        ({"dimensions": 10**9}, "dimensions", "integer_above_max_value"),
        ({"model": ""}, "model", "string_below_min_length"),
        ({"normalize": 1}, "normalize", "invalid_type"),
    ],
)
async def test_refused_by_the_edge(
    edge: Edge, changes: dict[str, Any], param: str, code: str
) -> None:
    answer = await edge.http.post(EMBED, json=body(**changes))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    assert error["type"] == "invalid_request_error"
    assert param in error["message"] or "Supported values" in error["message"]
    assert not edge.vectors.embedding.requests


@pytest.mark.parametrize("missing", ["model", "input"])
async def test_missing(edge: Edge, missing: str) -> None:
    request = body()
    del request[missing]
    error = (await edge.http.post(EMBED, json=request)).json()["error"]
    assert (error["param"], error["code"]) == (missing, "missing_required_parameter")


@pytest.mark.parametrize(
    ("given", "reason", "path", "param"),
    [
        ("x", "UNSUPPORTED_PARAMETER", "dimensions", "dimensions"),
        ("x", "CONTEXT_LENGTH_EXCEEDED", "inputs[0]", "input"),
        ("x", "CONTEXT_LENGTH_EXCEEDED", "", "input"),
        (["x", "y"], "CONTEXT_LENGTH_EXCEEDED", "inputs[1]", "input[1]"),
        (["x", "y"], "CONTEXT_LENGTH_EXCEEDED", "inputs[1].text", "input[1]"),
        (["x", "y"], "CONTEXT_LENGTH_EXCEEDED", "inputs", "input"),
        ([1, 9], "UNSUPPORTED_PARAMETER", "inputs[0].token_ids.ids[1]", "input[1]"),
        ([[1], [2, 9]], "UNSUPPORTED_PARAMETER", "inputs[1].token_ids.ids[1]", "input[1][1]"),
    ],
)
async def test_fields_are_spelled_as_the_request_spells_them(
    edge: Edge, given: Any, reason: str, path: str, param: str
) -> None:
    model = f"fails-{reason}-{path}" if path else f"fails-{reason}"
    answer = await edge.http.post(EMBED, json=body(model=model, input=given))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert "inputs" not in error["message"]
    assert error["code"] in {"unsupported_parameter", "context_length_exceeded"}


async def test_a_full_queue_is_503_and_an_unknown_model_404(edge: Edge) -> None:
    answer = await edge.http.post(EMBED, json=body(model="fails-QUEUE_FULL"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    answer = await edge.http.post(EMBED, json=body(model="fails-MODEL_NOT_FOUND-model"))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "more"), [(EMBED, {"input": "x"}), (RERANK, {"query": "q", "documents": ["d"]})]
)
async def test_a_client_that_leaves_ends_the_call(
    edge: Edge, path: str, more: dict[str, Any]
) -> None:
    peer = edge.vectors.embedding
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request({"model": "waiting", **more}, path))
    await edge.backend.until(lambda: peer.live == 1)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)
    assert await reader.read() == b""


@pytest.mark.parametrize("encoding", ["base64", "float"])
async def test_a_large_answer_is_whole_and_in_order(edge: Edge, encoding: str) -> None:
    request = body(
        input=[f"text {n}" for n in range(2048)], dimensions=384, encoding_format=encoding
    )
    answer = await edge.http.post(EMBED, json=request)
    data = answer.json()["data"]
    assert [item["index"] for item in data] == list(range(2048))
    for number in (0, 1000, 2047):
        value = data[number]["embedding"]
        raw = base64.b64decode(value) if encoding == "base64" else np.array(value, "<f4").tobytes()
        assert raw == vector(f"text {number}", 384).tobytes()
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_rerank_in_jinas_shape(edge: Edge) -> None:
    request = {"model": "cross", "query": "x y", "documents": DOCUMENTS}
    answer = await edge.http.post(RERANK, json=request)
    assert answer.status_code == 200
    got = answer.json()
    assert got["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "x y"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "x b"}},
        {"index": 0, "relevance_score": 0.0, "document": {"text": "a b"}},
    ]
    assert got["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    assert (got["model"], got["method"]) == ("cross", "cross_encoder")
    assert got["id"].startswith("rerank-")
    assert got["meta"]["tokens"] == {"input_tokens": 11, "output_tokens": 0}
    sent = edge.vectors.embedding.requests[-1]
    assert list(sent.documents) == ["a b", "x y", "x b"]
    assert not sent.HasField("top_n")


async def test_rerank_in_coheres_shape(edge: Edge) -> None:
    request = {"query": "x y", "documents": DOCUMENTS, "top_n": 2, "max_tokens_per_doc": 7}
    answer = await edge.http.post("/v2/rerank", json=request)
    got = answer.json()
    assert [list(item) for item in got["results"]] == [["index", "relevance_score"]] * 2
    assert (got["model"], got["method"]) == ("first", "embedding_similarity")
    assert got["meta"]["api_version"] == {"version": "2"}
    assert "openai-processing-ms" in answer.headers
    sent = edge.vectors.embedding.requests[-1]
    assert (sent.top_n, sent.max_tokens_per_document) == (2, 7)
    request["return_documents"] = True
    got = (await edge.http.post("/v2/rerank", json=request)).json()
    assert got["results"][0]["document"] == {"text": "x y"}
    request["return_documents"] = False
    got = (await edge.http.post(RERANK, json=request)).json()
    assert "document" not in got["results"][0]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"query": ""}, "query", "string_below_min_length"),
        ({"documents": []}, "documents", "empty_array"),
        ({"documents": ["x"] * 2049}, "documents", "array_above_max_length"),
        ({"documents": ["a", ""]}, "documents[1]", "string_below_min_length"),
        ({"documents": ["a", {}]}, "documents[1].text", "missing_required_parameter"),
        ({"documents": [{"text": ""}]}, "documents[0].text", "string_below_min_length"),
        ({"documents": "x"}, "documents", "invalid_type"),
        ({"top_n": 0}, "top_n", "integer_below_min_value"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", "integer_below_min_value"),
        ({"rank_fields": ["title"]}, "rank_fields", "unsupported_parameter"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc", "unsupported_parameter"),
        ({"return_documents": "yes"}, "return_documents", "invalid_type"),
        (
            {"model": "fails-UNSUPPORTED_PARAMETER-max_tokens_per_document"},
            "max_tokens_per_doc",
            "unsupported_parameter",
        ),
        (
            {"model": "fails-CONTEXT_LENGTH_EXCEEDED-documents[1]"},
            "documents[1]",
            "context_length_exceeded",
        ),
    ],
)
async def test_rerank_refused(edge: Edge, changes: dict[str, Any], param: str, code: str) -> None:
    request = {"model": "cross", "query": "q", "documents": ["a", "b"], **changes}
    answer = await edge.http.post(RERANK, content=json.dumps(request))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error


async def test_rerank_ignores_null(edge: Edge) -> None:
    nulls = dict.fromkeys(
        ("model", "top_n", "return_documents", "rank_fields", "max_chunks_per_doc", "user")
    )
    request = {"query": "q", "documents": ["a"], **nulls}
    assert (await edge.http.post(RERANK, json=request)).status_code == 200

"""Golden files of embeddings, rerank and vector stores: request → gRPC request, answer → JSON.

A folder's name says what it is. `request.json` and `response.json` are written by hand; the rest
by `make golden`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from penstock.embedding.v1 import embedding_service_pb2 as embedding_pb2
from penstock.retrieval.v1 import collection_pb2, retrieval_service_pb2

from gateway.dialects.openai import (
    embedding_answers,
    embedding_schema,
    embedding_translate,
    vector_store_answers,
    vector_store_schema,
    vector_store_translate,
)
from policy.principals import ANONYMOUS
from tests.golden.test_openai_golden import Golden

CASES = sorted((Path(__file__).parent / "openai_vectors").iterdir())
NAME = "tenants/default/collections/vs_a"
Kind = tuple[type, Callable[[Any], Any], type, Callable[[Any, Any], Any]]


def rerank(version: str) -> Kind:
    return (
        embedding_schema.RerankRequest,
        embedding_translate.to_rerank_request,
        embedding_pb2.RerankResponse,
        lambda answer, body: embedding_answers.reranking(answer, body, version),
    )


KINDS: dict[str, Kind] = {
    "embeddings": (
        embedding_schema.EmbeddingsRequest,
        embedding_translate.to_embed_request,
        embedding_pb2.EmbedResponse,
        embedding_answers.embeddings,
    ),
    "rerank-jina": rerank("1"),
    "rerank-cohere": rerank("2"),
    "search": (
        vector_store_schema.VectorStoreSearch,
        lambda body: vector_store_translate.to_search_requests(body, NAME),
        retrieval_service_pb2.SearchResponse,
        lambda answers, body: vector_store_answers.search_results(answers, body, 3),
    ),
    "store-create": (
        vector_store_schema.VectorStoreCreate,
        lambda body: vector_store_translate.to_create_request(body, ANONYMOUS),
        collection_pb2.Collection,
        lambda answer, _: vector_store_answers.vector_store(answer),
    ),
}


@pytest.fixture(params=CASES, ids=lambda path: path.name)
def case(request: pytest.FixtureRequest) -> tuple[Golden, Kind]:
    kind = next(kind for name, kind in KINDS.items() if request.param.name.startswith(name))
    return Golden(request.param, request.config.getoption("--update-golden")), kind


def as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def test_request(case: tuple[Golden, Kind]) -> None:
    golden, (schema, translate, _, _) = case
    request = translate(msgspec.json.decode(golden.read("request.json"), type=schema))
    found = [as_json(item) for item in request] if isinstance(request, list) else as_json(request)
    golden.check("grpc.json", json.dumps(found, indent=2, sort_keys=True).encode() + b"\n")


def test_answer(case: tuple[Golden, Kind]) -> None:
    golden, (schema, _, message, render) = case
    body = msgspec.json.decode(golden.read("request.json"), type=schema)
    given = json.loads(golden.read("response.json"))
    if isinstance(given, list):
        answer = render([json_format.ParseDict(item, message()) for item in given], body)
    else:
        answer = render(json_format.ParseDict(given, message()), body)
    data = msgspec.json.encode(answer) if isinstance(answer, msgspec.Struct) else b"".join(answer)
    data = re.sub(rb"rerank-\w{24}", b"rerank-ID", data)  # new with every answer
    golden.check("answer.json", msgspec.json.format(data, indent=2) + b"\n")

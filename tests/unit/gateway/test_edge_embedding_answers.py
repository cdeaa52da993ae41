from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.embedding.v1 import embedding_service_pb2 as service_pb2

from gateway.dialects.openai.embedding_answers import embeddings
from gateway.dialects.openai.embedding_schema import EmbeddingsRequest


def response(vectors: list[np.ndarray]) -> service_pb2.EmbedResponse:
    answer = service_pb2.EmbedResponse()
    for index, vector in enumerate(vectors):
        answer.embeddings.add(
            index=index, dimensions=len(vector), values=vector.astype("<f4").tobytes()
        )
    return answer


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_large_body_comes_in_pieces_of_bounded_size(encoding: str) -> None:
    vectors = [np.full(384, number / 7, np.float32) for number in range(2048)]
    body = EmbeddingsRequest(model="m", input="x", encoding_format=encoding)
    pieces = list(embeddings(response(vectors), body))
    assert len(pieces) > 40
    assert max(map(len, pieces)) < 1 << 18
    data = json.loads(b"".join(pieces))["data"]
    assert [item["index"] for item in data] == list(range(2048))


def test_a_small_body_is_one_piece() -> None:
    body = EmbeddingsRequest(model='a"b', input="x")
    (piece,) = embeddings(response([np.zeros(384, np.float32)]), body)
    assert json.loads(piece)["model"] == 'a"b'


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_read_as_the_same_floats(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    body = EmbeddingsRequest(model="m", input="x")
    answer = json.loads(b"".join(embeddings(response([vector]), body)))
    read = np.array(answer["data"][0]["embedding"], np.float32)
    assert read.tobytes() == vector.tobytes()

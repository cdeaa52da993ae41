"""What people do with a platform, by its addresses alone: the same wherever and however it runs."""

from __future__ import annotations

import base64
import io
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from penstock.embedding.v1 import embedding_pb2, embedding_service_pb2
from penstock.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from penstock.image.v1 import progress_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from penstock.inference.v1 import event_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.drawing import MODEL as PAINTER
from tests.e2e.drawing import Wish
from tests.e2e.library import CHAT, EMBEDDER, Library, document, text_of
from tests.e2e.parity_rows import COLOUR
from tests.e2e.test_parity import to_chat

TIMEOUT_S = 240.0
STORY = {"model": CHAT, "messages": [{"role": "user", "content": "Tell me a story"}]}
GREEDY = STORY | {"temperature": 0, "max_tokens": 24}
TEXTS = ("The sky on Mars is red.", "Saturn has rings of ice.", "rings")
DRAWN = Wish(steps=2)
FACTS = {"mars": "The sky on Mars is red.", "earth": "The sky on Earth is blue."}
FACTS |= {"saturn": "Saturn has rings of ice.", "arlo": "The bridge in Arlo is 300 metres long."}
SHELF, QUESTION = "planets", "What color is the sky on Mars?"
SERVING = {"inference": CHAT, "embedding": EMBEDDER, "image": PAINTER}
"""Models by the services that serve them."""


@dataclass(frozen=True)
class Place:
    """Where a platform is, and how one gets in."""

    url: str
    key: str
    targets: Mapping[str, str]
    """gRPC, by service."""
    metrics: Mapping[str, str]
    """URLs of the processes' metrics, which are not for those who call."""
    ca: Path | None = None
    """Who signed the certificate that callers are shown; none: it is plain text."""

    def http(self) -> httpx.Client:
        verify = True if self.ca is None else ssl.create_default_context(cafile=str(self.ca))
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, verify=verify, timeout=TIMEOUT_S)

    def channel(self, service: str) -> grpc.Channel:
        target = self.targets[service]
        options = [("grpc.max_reconnect_backoff_ms", 500)]
        if self.ca is None:
            return grpc.insecure_channel(target, options)
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        return grpc.secure_channel(target, credentials, options)

    @property
    def metadata(self) -> tuple[tuple[str, str]]:
        return (("authorization", f"Bearer {self.key}"),)

    def post(self, path: str, body: Any) -> Any:
        """The answer, which has to be one."""
        with self.http() as http:
            answer = http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def model(self, name: str) -> model_pb2.Model:
        """What the catalogue says of a model."""
        request = model_service_pb2.GetModelRequest(name=f"models/{name}")
        with self.channel("model") as channel:
            stub = ModelServiceStub(channel)
            return stub.GetModel(request, metadata=self.metadata, timeout=TIMEOUT_S)


def chats(place: Place) -> tuple[str, str]:
    """Chats whole and streamed, both ways; returns the text, and what of it a stop text leaves."""
    whole = place.post("/v1/chat/completions", GREEDY)
    text, usage = whole["choices"][0]["message"]["content"], whole["usage"]
    assert text.strip()
    assert usage["completion_tokens"] == 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    events = streamed(place, GREEDY | {"stream_options": {"include_usage": True}})
    assert events.pop() == "[DONE]"
    *chunks, last = map(json.loads, events)
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], usage["total_tokens"])
    counted = (usage["prompt_tokens"], 24)
    with place.channel("inference") as channel:
        stub = InferenceServiceStub(channel)
        call = {"metadata": place.metadata, "timeout": TIMEOUT_S}
        answer = stub.Chat(to_chat(GREEDY), **call)
        assert answer.choices[0].message.parts[0].text == text
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == counted
        told = list(stub.StreamChat(to_chat(GREEDY), **call))
    assert "".join(event.delta.text for event in told) == text
    reasons = [event.finished.reason for event in told if event.HasField("finished")]
    assert reasons == [event_pb2.FINISH_REASON_LENGTH]
    used = told[-1].done.usage
    assert (used.prompt_tokens, used.completion_tokens) == counted
    scored = place.post("/v1/chat/completions", GREEDY | {"logprobs": True, "top_logprobs": 2})
    tokens = scored["choices"][0]["logprobs"]["content"]
    assert len(tokens) == 24
    assert all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in tokens)
    stop = text.split()[2]
    cut = place.post("/v1/chat/completions", GREEDY | {"stop": [stop]})["choices"][0]
    assert cut["finish_reason"] == "stop"
    assert cut["message"]["content"] == text[: text.index(stop)]
    return text, cut["message"]["content"]


def streamed(place: Place, body: Mapping[str, Any]) -> list[str]:
    """The data of a chat's events."""
    with place.http() as http:
        answer = http.post("/v1/chat/completions", json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


FORM = {"name": "form", "schema": COLOUR, "strict": True}
ABILITIES: dict[str, tuple[str, dict[str, Any]]] = {
    "json_schema": (
        "response_format",
        {"response_format": {"type": "json_schema", "json_schema": FORM}, "seed": 2},
    ),
    "logit_bias": ("logit_bias", {"logit_bias": {"5": 1}, "max_tokens": 2}),
}
"""What engines may be without: what asks for it, and the field that a refusal names."""


def can_what_it_names(place: Place) -> dict[str, bool]:
    """Gets what the model's capabilities name, and a refusal that names what they don't."""
    said = place.model(CHAT).capabilities
    able = {"json_schema": said.json_schema, "logit_bias": "logit_bias" in said.sampling_fields}
    for name, (field, asked) in ABILITIES.items():
        body = STORY | asked
        with place.http() as http, place.channel("inference") as channel:
            answer = http.post("/v1/chat/completions", json=body)
            stub = InferenceServiceStub(channel)
            call = stub.Chat.future(to_chat(body), metadata=place.metadata, timeout=TIMEOUT_S)
            if not able[name]:
                assert answer.status_code == 400, answer.text
                assert field in answer.json()["error"]["message"]
                assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert name in call.details()
                continue
            assert answer.status_code == 200, answer.text
            texts = [answer.json()["choices"][0]["message"]["content"]]
            texts.append(call.result().choices[0].message.parts[0].text)
        if name == "json_schema":
            assert {json.loads(text).get("colour", "red") for text in texts} <= {"red", "blue"}
    return able


def embeds(place: Place) -> list[list[float]]:
    """Makes vectors, both ways."""
    answer = place.post("/v1/embeddings", {"model": EMBEDDER, "input": TEXTS})
    vectors = [item["embedding"] for item in answer["data"]]
    inputs = [embedding_pb2.EmbeddingInput(text=text) for text in TEXTS]
    request = embedding_service_pb2.EmbedRequest(model=EMBEDDER, inputs=inputs)
    with place.channel("embedding") as channel:
        stub = EmbeddingServiceStub(channel)
        told = stub.Embed(request, metadata=place.metadata, timeout=TIMEOUT_S)
    assert answer["usage"]["prompt_tokens"] == told.usage.prompt_tokens > 0
    for one, other in zip(vectors, told.embeddings, strict=True):
        assert cosine(one, np.frombuffer(other.values, "<f4").tolist()) > 0.9999
    assert cosine(vectors[1], vectors[2]) > cosine(vectors[0], vectors[2])
    return vectors


def cosine(one: list[float], other: list[float]) -> float:
    assert len(one) == len(other) > 0
    lengths = [sum(value * value for value in vector) ** 0.5 for vector in (one, other)]
    return sum(a * b for a, b in zip(one, other, strict=True)) / (lengths[0] * lengths[1])


def draws(place: Place) -> bytes:
    """Draws a picture, both ways; returns its file."""
    answer = place.post("/v1/images/generations", DRAWN.openai())
    [drawn] = [base64.b64decode(item["b64_json"]) for item in answer["data"]]
    with Image.open(io.BytesIO(drawn)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (DRAWN.side, DRAWN.side))
    with place.channel("image") as channel:
        stub = ImageServiceStub(channel)
        request, metadata = DRAWN.request(), place.metadata
        events = list(stub.StreamGenerate(request, metadata=metadata, timeout=TIMEOUT_S))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("queued", "finish")
    assert events[-1].finish.reason == progress_pb2.IMAGE_FINISH_REASON_COMPLETED
    steps = [event.progress.step for event in events if event.HasField("progress")]
    assert set(range(1, DRAWN.steps + 1)) <= set(steps)
    assert steps == sorted(steps)
    assert [event.image.data for event in events if event.HasField("image")] == [drawn]
    return drawn


def colours(drawn: bytes) -> bytes:
    """Returns the values of all pixels of a picture, three each."""
    with Image.open(io.BytesIO(drawn)) as image:
        return image.convert("RGB").tobytes()


def asks_documents(place: Place) -> str:
    """Loads documents, finds the right one, and has a question answered from them."""
    with place.channel("retrieval") as channel:
        library = Library(channel, place.key)
        library.drop(SHELF)
        library.create(SHELF)
        library.put(SHELF, [document(name, text) for name, text in FACTS.items()])
        assert library.search(SHELF, QUESTION)[0].document == library.name(SHELF, "mars")
        events = list(library.answer(SHELF, QUESTION))
        assert events[0].retrieved.hits[0].document == library.name(SHELF, "mars")
        assert events[-1].chat.done.usage.completion_tokens > 0
    text = text_of(events)
    found = place.post(f"/v1/vector_stores/{SHELF}/search", {"query": QUESTION})
    assert found["data"][0]["file_id"] == "mars", found
    asked = {"context": {"query": SHELF}, "model": CHAT, "query": QUESTION, "temperature": 0}
    assert place.post("/branch/main/ai/rag", asked)["text"] == text
    assert "red" in text.lower()
    assert "blue" not in text.lower()
    return text


def is_measured(place: Place) -> None:
    """Finds in the metrics of each process what was asked of its model."""
    for service, model in SERVING.items():
        answer = httpx.get(place.metrics[service], timeout=TIMEOUT_S).raise_for_status()
        samples = [
            sample
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        ]
        ready = [s.value for s in samples if s.name == "penstock_model_ready" if of(s, model)]
        assert ready == [1], (service, ready)
        name = "gen_ai_server_request_duration_seconds_count"
        assert sum(s.value for s in samples if s.name == name and of(s, model)) > 0, service


def of(sample: Any, model: str) -> bool:
    """Tells whether a sample is labelled with a model."""
    labels = sample.labels
    return labels.get("model", labels.get("gen_ai_request_model")) == model

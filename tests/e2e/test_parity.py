"""gRPC ≡ REST: requests sent both ways give the same text, finish reason, usage and errors."""

from __future__ import annotations

import json
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from penstock.inference.v1 import event_pb2, inference_service_pb2, inference_service_pb2_grpc

from tests.e2e.stack import Platform

MODEL = "penstock-starter"
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
STORY = {"messages": [{"role": "user", "content": "Tell me a story"}]}


def schema_form(schema: dict[str, Any], strict: bool = False) -> dict[str, Any]:
    inner = {"name": "form", "schema": schema, "strict": strict}
    return {"type": "json_schema", "json_schema": inner}


COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}}

CASES: list[dict[str, Any]] = [
    HELLO | {"temperature": 0},
    STORY | {"temperature": 0, "max_tokens": 7},
    STORY | {"temperature": 1, "seed": 11, "max_tokens": 16},
    STORY | {"temperature": 1, "seed": 5, "n": 2, "max_tokens": 8},
    STORY | {"temperature": 0, "stop": [" a"]},
    STORY | {"temperature": 0, "frequency_penalty": 1.5, "presence_penalty": 0.5, "max_tokens": 12},
    STORY | {"temperature": 1, "seed": 2, "response_format": schema_form(COLOUR, strict=True)},
    STORY | {"max_tokens": 9, "seed": 2, "response_format": {"type": "json_object"}},
    STORY | {"temperature": 0.7, "top_k": 5, "top_p": 0.8, "min_p": 0.01, "seed": 1},
    {
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "temperature": 0,
    },
]

ERRORS: list[tuple[dict[str, Any], str, int]] = [
    (HELLO | {"model": "nope"}, "MODEL_NOT_FOUND", 404),
    ({"messages": [{"role": "user", "content": "x " * 30000}]}, "CONTEXT_LENGTH_EXCEEDED", 400),
    (HELLO | {"temperature": 2.5}, "INVALID_ARGUMENT", 400),
    (HELLO | {"logit_bias": {"999999": 1}}, "INVALID_ARGUMENT", 400),
    (HELLO | {"response_format": schema_form({"not": {}})}, "INVALID_ARGUMENT", 400),
    (
        HELLO | {"response_format": schema_form({"type": "object"}), "ignore_eos": True},
        "INVALID_ARGUMENT",
        400,
    ),
]

FINISH = {
    event_pb2.FINISH_REASON_STOP: "stop",
    event_pb2.FINISH_REASON_LENGTH: "length",
    event_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
SAMPLING = (
    *("temperature", "max_tokens", "seed", "n", "frequency_penalty", "presence_penalty"),
    *("top_k", "top_p", "min_p", "stop", "ignore_eos"),
)


def to_proto(body: dict[str, Any]) -> inference_service_pb2.ChatRequest:
    message = {
        "model": body.get("model", MODEL),
        "messages": [
            {"role": f"ROLE_{m['role'].upper()}", "parts": [{"text": m["content"]}]}
            for m in body["messages"]
        ],
        "sampling": {key: body[key] for key in SAMPLING if key in body},
    }
    if "logit_bias" in body:
        message["sampling"]["logit_bias"] = body["logit_bias"]
    form = body.get("response_format", {})
    if form.get("type") == "json_object":
        message["guide"] = {"json_object": True}
    elif form:
        schema = form["json_schema"]
        message["guide"] = {
            "json_schema": json.dumps(schema["schema"]),
            "strict": schema.get("strict", False),
        }
    return json_format.ParseDict(message, inference_service_pb2.ChatRequest())


def stub(platform: Platform, channel: grpc.Channel) -> Any:
    return inference_service_pb2_grpc.InferenceServiceStub(channel)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_same_answer(platform: Platform, case: int) -> None:
    body = CASES[case]
    metadata = (("authorization", f"Bearer {platform.key}"),)
    with grpc.insecure_channel(platform.address("inference")) as channel:
        answer = stub(platform, channel).Chat(to_proto(body), metadata=metadata, timeout=60)
        events = list(
            stub(platform, channel).StreamChat(to_proto(body), metadata=metadata, timeout=60)
        )
    rest = httpx.post(
        f"{platform.url}/v1/chat/completions",
        json={"model": MODEL} | body,
        headers=platform.headers(),
        timeout=60,
    ).json()
    for choice, expected in zip(rest["choices"], answer.choices, strict=True):
        assert choice["message"]["content"] == "".join(p.text for p in expected.message.parts)
        assert choice["finish_reason"] == FINISH[expected.finish_reason]
        streamed = [e.delta.text for e in events if e.delta.index == choice["index"]]
        assert "".join(streamed) == choice["message"]["content"]
    usage = rest["usage"]
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert usage[field] == getattr(answer.usage, field), field
        assert usage[field] == getattr(events[-1].done.usage, field), field
    assert rest["system_fingerprint"] == answer.fingerprint


@pytest.mark.parametrize(("body", "reason", "status"), ERRORS)
def test_same_error(platform: Platform, body: dict[str, Any], reason: str, status: int) -> None:
    metadata = (("authorization", f"Bearer {platform.key}"),)
    with (
        grpc.insecure_channel(platform.address("inference")) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        stub(platform, channel).Chat(to_proto(body), metadata=metadata, timeout=60)
    trailers = dict(caught.value.trailing_metadata())  # type: ignore[attr-defined]
    rich = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = [error_details_pb2.ErrorInfo() for _ in rich.details]
    reasons = [i.reason for d, i in zip(rich.details, info, strict=True) if d.Unpack(i)]
    assert reasons == [reason]
    for stream in (False, True):
        rest = httpx.post(
            f"{platform.url}/v1/chat/completions",
            json={"model": MODEL, "stream": stream} | body,
            headers=platform.headers(),
            timeout=60,
        )
        assert rest.status_code == status, rest.text
        assert set(rest.json()["error"]) == {"message", "type", "param", "code"}


def test_a_service_that_does_not_exist_yet_is_unimplemented(platform: Platform) -> None:
    from penstock.embedding.v1 import embedding_service_pb2, embedding_service_pb2_grpc

    with (
        grpc.insecure_channel(platform.address("inference")) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed(
            embedding_service_pb2.EmbedRequest(), timeout=10
        )
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]

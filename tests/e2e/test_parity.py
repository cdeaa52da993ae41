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

from tests.e2e.parity_rows import CASES, ERRORS, MODEL, NAMED, TEXTS
from tests.e2e.stack import Platform

FINISH = {
    event_pb2.FINISH_REASON_STOP: "stop",
    event_pb2.FINISH_REASON_LENGTH: "length",
    event_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
SAMPLING = (
    *("temperature", "max_tokens", "seed", "n", "frequency_penalty", "presence_penalty"),
    *("top_k", "top_p", "min_p", "stop", "ignore_eos", "logit_bias"),
)
Asked = inference_service_pb2.ChatRequest | inference_service_pb2.CompleteRequest


def to_chat(body: dict[str, Any]) -> inference_service_pb2.ChatRequest:
    message = {
        "model": body.get("model", MODEL),
        "messages": [
            {"role": f"ROLE_{m['role'].upper()}", "parts": [{"text": m["content"]}]}
            for m in body["messages"]
        ],
        "sampling": {key: body[key] for key in SAMPLING if key in body},
        "tools": [
            {
                "name": tool["function"]["name"],
                "description": tool["function"]["description"],
                "parameters_json": json.dumps(tool["function"]["parameters"]),
            }
            for tool in body.get("tools", ())
        ],
    }
    if body.get("logprobs"):
        message["sampling"]["logprobs"] = body.get("top_logprobs", 0)
    match body.get("tool_choice"):
        case str(mode):
            message["tool_choice"] = {"mode": f"MODE_{mode.upper()}"}
        case {"function": {"name": name}}:
            message["tool_choice"] = {"mode": "MODE_NAMED", "name": name}
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


def to_complete(body: dict[str, Any]) -> inference_service_pb2.CompleteRequest:
    prompt = body["prompt"]
    several = isinstance(prompt, list) and isinstance(prompt[0], str)
    message = {
        "model": body.get("model", MODEL),
        "prompts": [
            {"text": one} if isinstance(one, str) else {"token_ids": {"ids": one}}
            for one in (prompt if several else [prompt])
        ],
        "sampling": {key: body[key] for key in (*SAMPLING, "logprobs") if key in body},
        "echo": body.get("echo", False),
    }
    return json_format.ParseDict(message, inference_service_pb2.CompleteRequest())


class Native:
    """The platform, asked over gRPC."""

    def __init__(self, platform: Platform) -> None:
        self._channel = grpc.insecure_channel(platform.address("inference"))
        self._stub: Any = inference_service_pb2_grpc.InferenceServiceStub(self._channel)
        self._more = {"metadata": (("authorization", f"Bearer {platform.key}"),), "timeout": 60}

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()

    def whole(self, request: Asked) -> Any:
        chat = isinstance(request, inference_service_pb2.ChatRequest)
        return (self._stub.Chat if chat else self._stub.Complete)(request, **self._more)

    def events(self, request: Asked) -> list[Any]:
        chat = isinstance(request, inference_service_pb2.ChatRequest)
        return list(
            (self._stub.StreamChat if chat else self._stub.StreamComplete)(request, **self._more)
        )


def rest(platform: Platform, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(
        f"{platform.url}/v1/{path}",
        json={"model": MODEL} | body,
        headers=platform.headers(),
        timeout=60,
    )


def check_usage(answer: dict[str, Any], native: Any, events: list[Any]) -> None:
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert answer["usage"][field] == getattr(native.usage, field), field
        assert answer["usage"][field] == getattr(events[-1].done.usage, field), field
    assert answer["system_fingerprint"] == native.fingerprint == events[0].started.fingerprint


def streamed_text(events: list[Any], index: int) -> str:
    return "".join(e.delta.text for e in events if e.delta.index == index)


def streamed_calls(events: list[Any], index: int) -> list[tuple[str, str]]:
    """Name and arguments of each call."""
    found: dict[int, list[str]] = {}
    for event in events:
        if event.HasField("tool_delta") and event.tool_delta.index == index:
            call = found.setdefault(event.tool_delta.call_index, ["", ""])
            call[0] += event.tool_delta.name
            call[1] += event.tool_delta.arguments_json
    return [(name, arguments) for name, arguments in found.values()]


def near(values: list[float]) -> Any:
    """Numbers that gRPC tells with 32 bits and REST with 64."""
    return pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_same_answer(platform: Platform, case: int) -> None:
    body = CASES[case]
    with Native(platform) as native:
        expected = native.whole(to_chat(body))
        events = native.events(to_chat(body))
    answer = rest(platform, "chat/completions", body).json()
    for choice, other in zip(answer["choices"], expected.choices, strict=True):
        message, index = choice["message"], choice["index"]
        text = "".join(part.text for part in other.message.parts)
        assert (message["content"] or "") == text == streamed_text(events, index)
        calls = [
            (c["function"]["name"], c["function"]["arguments"])
            for c in message.get("tool_calls", ())
        ]
        assert calls == [(c.name, c.arguments_json) for c in other.message.tool_calls]
        assert calls == streamed_calls(events, index)
        assert bool(calls) == (body.get("tool_choice") in ("required", NAMED))
        assert choice["finish_reason"] == FINISH[other.finish_reason]
        scores = (choice["logprobs"] or {"content": []})["content"]
        assert bool(scores) == ("logprobs" in body)
        assert [s["token"] for s in scores] == [s.token for s in other.logprobs]
        assert [s["logprob"] for s in scores] == near([s.logprob for s in other.logprobs])
        assert [bytes(s["bytes"]) for s in scores] == [s.bytes for s in other.logprobs]
        for score, expected_score in zip(scores, other.logprobs, strict=True):
            assert len(score["top_logprobs"]) == body.get("top_logprobs", 0)
            assert [t["token"] for t in score["top_logprobs"]] == [
                t.token for t in expected_score.top
            ]
    check_usage(answer, expected, events)


@pytest.mark.parametrize("case", range(len(TEXTS)))
def test_same_text(platform: Platform, case: int) -> None:
    body = TEXTS[case]
    with Native(platform) as native:
        expected = native.whole(to_complete(body))
        events = native.events(to_complete(body))
    answer = rest(platform, "completions", body).json()
    for choice, other in zip(answer["choices"], expected.choices, strict=True):
        assert choice["index"] == other.index
        assert choice["text"] == other.text == streamed_text(events, other.index)
        assert choice["finish_reason"] == FINISH[other.finish_reason]
        scores = choice["logprobs"]
        assert bool(scores) == ("logprobs" in body)
        if scores:
            assert scores["tokens"] == [s.token for s in other.logprobs]
            assert scores["token_logprobs"] == near([s.logprob for s in other.logprobs])
            assert [len(top) for top in scores["top_logprobs"]] == [2] * len(scores["tokens"])
    check_usage(answer, expected, events)


@pytest.mark.parametrize(("body", "reason", "field", "status", "code", "param"), ERRORS)
def test_same_error(
    platform: Platform,
    body: dict[str, Any],
    reason: str,
    field: str,
    status: int,
    code: str,
    param: str,
) -> None:
    chat = "messages" in body
    request = to_chat(body) if chat else to_complete(body)
    with Native(platform) as native:
        for ask in (native.whole, native.events):
            with pytest.raises(grpc.RpcError) as caught:
                ask(request)
            assert told(caught.value) == ([reason], [field])
    for stream in (False, True):
        path = "chat/completions" if chat else "completions"
        answer = rest(platform, path, body | {"stream": stream})
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
        assert error["param"] == param
        assert error["message"]


def told(error: Any) -> tuple[list[str], list[str]]:
    """Reasons and fields of a gRPC error."""
    trailers = dict(error.trailing_metadata())
    rich = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    reasons: list[str] = []
    fields: list[str] = []
    for detail in rich.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reasons.append(info.reason)
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return reasons, fields


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

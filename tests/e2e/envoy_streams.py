"""The ways in which a stream of chat events is read through a front."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
from penstock.inference.v1 import event_pb2

from tests.e2e.envoy_process import Front

STREAM = "/penstock.inference.v1.InferenceService/StreamChat"
STREAM_JSON = "/penstock/v1/models/m:streamChat"
HELLO = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "hello"}]}]}
EVENTS = (
    event_pb2.ChatEvent(started=event_pb2.Started()).SerializeToString(),
    event_pb2.ChatEvent(delta=event_pb2.Delta(text="hi")).SerializeToString(),
)


def over_grpc(front: Front) -> Iterator[dict[str, Any]]:
    with grpc.insecure_channel(front.address) as opened:
        for message in opened.unary_stream(STREAM)(b"", timeout=60):
            yield {event_pb2.ChatEvent.FromString(message).WhichOneof("event") or "": {}}


def over_http(front: Front, accept: str) -> Iterator[dict[str, Any]]:
    with httpx.stream(
        "POST", front.url + STREAM_JSON, json=HELLO, headers={"accept": accept}, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if line:
                yield json.loads(line.removeprefix("data: "))


WAYS = {
    "gRPC": over_grpc,
    "lines": lambda front: over_http(front, "application/json"),
    "SSE": lambda front: over_http(front, "text/event-stream"),
}

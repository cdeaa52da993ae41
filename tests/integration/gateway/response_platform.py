"""An edge before a real InferenceService and ResponseService: the echo engine, and a database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from penstock.inference.v1.response_service_pb2_grpc import add_ResponseServiceServicer_to_server

from gateway.settings import Settings
from policy.token_store import TokenSources
from services.inference.engines.echo_engine import EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry
from services.inference.response_servicer import ResponseServicer
from services.inference.response_stores import SqlResponses
from services.inference.responses import ResponseLimits, Responses
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind
from tests.integration.gateway.conftest import live_edge
from tests.integration.inference.inference_platform import served

RESPONSES = "/v1/responses"
LIMITS = ResponseLimits(most_responses=5, most_bytes=100_000)
TOKENS = ("my-token", "your-token")
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": None,
}


def called(city: str, name: str = "weather") -> str:
    """What the model says to call a function, here because it was told to."""
    call = json.dumps({"name": name, "arguments": {"city": city}})
    return f"<tool_call>\n{call}\n</tool_call>"


class Clock:
    """The time of the store."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Stack:
    """An edge before real services."""

    http: httpx.AsyncClient
    url: str
    store: SqlResponses
    clock: Clock

    def as_(self, token: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)

    async def create(self, input: Any, **more: Any) -> dict[str, Any]:
        body = {"model": "echo", "input": input, **more}
        answer = await self.http.post(RESPONSES, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def stream(self, input: Any, **more: Any) -> list[dict[str, Any]]:
        body = {"model": "echo", "input": input, "stream": True, **more}
        answer = await self.http.post(RESPONSES, json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return events(answer.text)

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = await self.http.get(f"{RESPONSES}/{path}")
        assert answer.status_code == status, answer.text
        return answer.json()


def events(text: str) -> list[dict[str, Any]]:
    """Reads a stream, whose every frame names the type of its event."""
    *frames, rest = text.split("\n\n")
    assert rest == ""
    found: list[dict[str, Any]] = []
    for frame in frames:
        if frame.startswith(":"):
            continue
        first, second = frame.split("\n")
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        assert list(event)[:2] == ["type", "sequence_number"]
        found.append(event)
    return found


@asynccontextmanager
async def stack(
    folder: Path, url: str = "", limits: ResponseLimits = LIMITS
) -> AsyncIterator[Stack]:
    """Serves `echo` and `slow`."""
    clock = Clock()
    store = SqlResponses(url or f"sqlite:///{folder / 'inference.db'}", clock)
    models = [
        await served("echo", EchoSettings()),
        await served("slow", EchoSettings(step_interval_s=0.01)),
    ]
    registry = Registry()
    for model in models:
        registry.put(model)
    registry.know([Known("echo", ModelKind.CHAT, ("org/alias",)), Known("slow", ModelKind.CHAT)])
    generator = Generator(registry)
    authenticator = CallAuthenticator(TokenSources(api_tokens=TOKENS))
    server = Server(
        ServerSettings(),
        [
            Registration(
                add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
            ),
            Registration(add_step_service, StepServicer(generator, authenticator)),
            Registration(
                add_ResponseServiceServicer_to_server,
                ResponseServicer(Responses(store, limits, clock=clock)),
            ),
        ],
        authenticator=authenticator,
    )
    await server.start()
    try:
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {"inference": server.address}
        settings = Settings(data_dir=folder, addresses=addresses, api_tokens=TOKENS)
        async with live_edge(settings) as (_, _, host, port):
            stacked = Stack(httpx.AsyncClient(), f"http://{host}:{port}", store, clock)
            await stacked.http.aclose()
            async with stacked.as_("my-token") as stacked.http:
                yield stacked
    finally:
        await server.stop(0)
        await store.close()
        for model in models:
            await model.loaded.engine.close()

"""Edges and a real inference service on its echo engine, all within limits."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import message_pb2
from penstock.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from gateway.settings_limits import LimitSettings, RedisSettings
from policy.limiting import Limiting
from policy.limiting import LimitSettings as Counting
from policy.limits_port import WhenUnavailable
from policy.principals import Limits
from policy.token_store import TokenSources
from policy.vouchers import Vouchers
from services.inference.engines.echo_engine import EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.authentication import CallAuthenticator
from services.rpc.limits import CallLimits, WorkLimits
from services.rpc.metering import Metering
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known
from services.serving.models import ModelKind as ServedKind
from services.usage.journal import Journal, taken
from services.usage.records import Record
from tests.integration.gateway.conftest import live_edge
from tests.integration.inference.inference_platform import served

TOKENS = ("sk-ada", "sk-bob")
SERVICE_TOKEN = "between-services"
MODEL, SLOW = "echo", "slow"


@dataclass
class LimitsPlatform:
    """Edges, and what tests look at behind them."""

    edges: list[httpx.AsyncClient]
    inference: Any
    """A stub of the service itself."""
    registry: Registry
    journal: Journal
    authenticator: CallAuthenticator
    address: str
    """Of the service."""

    @property
    def http(self) -> httpx.AsyncClient:
        return self.edges[0]

    def running(self) -> int:
        engines = [self.registry.resolve(name).loaded.engine for name in (MODEL, SLOW)]
        return sum(engine.status().running + engine.status().waiting for engine in engines)

    def records(self) -> list[Record]:
        """What was written down."""
        self.journal.rotate()
        found: list[Record] = []
        for path in sorted(self.journal.folder.glob("*.jsonl")):
            with taken(path) as segment:
                assert segment is not None
                found += segment.records
        return found


@contextlib.asynccontextmanager
async def limits_platform(
    folder: Path,
    *,
    edges: int = 1,
    redis_url: str = "",
    when_unavailable: str = "closed_for_tokens",
    limits: Mapping[str, int],
    service_token: str = SERVICE_TOKEN,
    step_interval_s: float = 0.02,
    **more: Any,
) -> AsyncIterator[LimitsPlatform]:
    """Everything, running. `limits` are those of who has none of its own."""
    async with contextlib.AsyncExitStack() as stack:
        registry = Registry()
        for name, interval_s in ((MODEL, 0.0), (SLOW, step_interval_s)):
            model = await served(name, EchoSettings(step_interval_s=interval_s, queue_limit=400))
            registry.put(model)
            stack.push_async_callback(model.loaded.engine.close)
        registry.know([Known(name, ServedKind.CHAT) for name in (MODEL, SLOW)])
        limiting = Limiting(
            Counting(
                Limits(**limits),
                when_unavailable=WhenUnavailable(when_unavailable),
                redis_url=redis_url,
                redis_timeout_s=30.0,
            )
        )
        stack.push_async_callback(limiting.close)
        calls = CallLimits(limiting.requests, Vouchers(service_token))
        journal = Journal(folder / "usage", "inference", most_bytes=0)
        meter = Metering(journal, WorkLimits(limiting.tokens()))
        generator = Generator(registry, slow_reader_timeout_s=5.0, meter=meter)
        sources = TokenSources(api_tokens=TOKENS, service_token=service_token)
        authenticator = CallAuthenticator(sources)
        server = Server(
            ServerSettings(grace_s=1),
            (
                Registration(
                    add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
                ),
                Registration(
                    add_step_service,
                    StepServicer(generator, authenticator, slow_reader_timeout_s=5.0, limits=calls),
                ),
            ),
            authenticator=authenticator,
            limits=calls,
        )
        await server.start()
        stack.push_async_callback(server.stop, 0)
        settings = Settings(
            api=ApiSettings(max_requests_per_minute=limits.get("requests_per_minute", 0)),
            limits=LimitSettings(
                concurrent_requests=limits.get("concurrent_requests", 0),
                when_unavailable=when_unavailable,
            ),
            redis=RedisSettings(redis_url, 30.0),
            api_tokens=TOKENS,
            service_token=service_token,
            data_dir=folder,
            addresses=dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1") | {"inference": server.address},
            **more,
        )
        clients: list[httpx.AsyncClient] = []
        for _ in range(edges):
            _, _, host, port = await stack.enter_async_context(live_edge(settings))
            client = httpx.AsyncClient(
                base_url=f"http://{host}:{port}",
                headers={"authorization": f"Bearer {TOKENS[0]}"},
                timeout=60,
                limits=httpx.Limits(max_connections=300),
            )
            clients.append(await stack.enter_async_context(client))
        channel = grpc.aio.insecure_channel(server.address)
        stack.push_async_callback(channel.close)
        stub = InferenceServiceStub(channel)
        yield LimitsPlatform(clients, stub, registry, journal, authenticator, server.address)


def chat(text: str = "hello", model: str = MODEL, **more: Any) -> dict[str, Any]:
    """The body of a chat."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 20}
    return body | more


def rpc_chat(text: str = "hello", most: int = 20) -> pb.ChatRequest:
    """The same for the service."""
    request = pb.ChatRequest(model=MODEL)
    request.messages.add(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
    request.sampling.max_tokens = most
    return request

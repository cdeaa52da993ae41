"""An edge before the real services on their echo engines: nothing is scripted here.

The echo engine says what the user's last message said, and continues a prompt by saying it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from penstock.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)
from penstock.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from policy.token_store import TokenSources
from services.embedding.preparing import Threads
from services.embedding.registry import Registry as EmbeddingRegistry
from services.inference.engines.echo_engine import EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.model.catalog import Catalog, utc_now
from services.model.records import Capabilities, ModelKind, Observation, ObservedState
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, Watches
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration
from services.serving.models import Known
from services.serving.models import ModelKind as ServedKind
from tests.integration.gateway.conftest import live_edge
from tests.integration.inference.inference_platform import served
from tests.integration.retrieval.service.rag_platform import (
    embedding_model,
    embedding_service,
    serving,
)

TOKEN = "sk-test"
CHAT, SLOW, COMPLETER, VECTORS = "echo", "slow", "completer", "words"

_KINDS = {
    CHAT: ModelKind.CHAT,
    SLOW: ModelKind.CHAT,
    COMPLETER: ModelKind.COMPLETION,
    VECTORS: ModelKind.EMBEDDING,
    "painter": ModelKind.IMAGE,
    "coming": ModelKind.CHAT,
}
_READY = (CHAT, SLOW, COMPLETER, VECTORS, "painter")


@dataclass
class EchoPlatform:
    """The edge, and what tests look at behind it."""

    http: httpx.AsyncClient
    registry: Registry
    url: str

    @property
    def running(self) -> int:
        """Sequences that the engines have."""
        models = [self.registry.resolve(name) for name in (CHAT, SLOW, COMPLETER)]
        statuses = [model.loaded.engine.status() for model in models]
        return sum(status.running + status.waiting for status in statuses)


@contextlib.asynccontextmanager
async def echo_platform(folder: Path, **api: Any) -> AsyncIterator[EchoPlatform]:
    """Everything, running."""
    authenticator = CallAuthenticator(TokenSources(api_tokens=(TOKEN,), service_token="service"))
    async with contextlib.AsyncExitStack() as stack:
        catalogue = await _catalogue(stack, folder)
        registry = await _inference(stack)
        generator = Generator(registry, slow_reader_timeout_s=5.0)
        inference = (
            Registration(
                add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
            ),
            Registration(
                add_step_service, StepServicer(generator, authenticator, slow_reader_timeout_s=5.0)
            ),
        )
        addresses = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
        for name, registrations in {
            "model": (Registration(add_ModelServiceServicer_to_server, catalogue),),
            "inference": inference,
            "embedding": (await _embedding(stack),),
        }.items():
            server = await stack.enter_async_context(serving(authenticator, *registrations))
            addresses[name] = server.address
        settings = Settings(
            api=ApiSettings(**api),
            api_tokens=(TOKEN,),
            service_token="service",
            data_dir=folder,
            addresses=addresses,
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        client = httpx.AsyncClient(
            base_url=f"http://{host}:{port}",
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        http = await stack.enter_async_context(client)
        yield EchoPlatform(http, registry, f"http://{host}:{port}")


async def _catalogue(stack: contextlib.AsyncExitStack, folder: Path) -> ModelServicer:
    opened = await SqlStore.open(f"sqlite:///{folder / 'model.db'}")
    store = await stack.enter_async_context(contextlib.aclosing(opened))
    feed = ChangeFeed()
    catalog = Catalog(store, announce=feed.announce)
    reports = Reports(catalog)
    await plant(catalog, [Seed(name, str(folder), kind) for name, kind in _KINDS.items()])
    able = Capabilities(tools=True, context_length=4096, dimensions=64)
    seen = [
        Observation(
            "one",
            name,
            1,
            ObservedState.READY,
            utc_now(),
            capabilities=able,
            parameter_count=22_700_000,
            template_name="chatml",
        )
        for name in _READY
    ]
    await reports.report("one", "inference", "", seen)
    return ModelServicer(catalog, reports, Watches(catalog, feed), SourcePolicy(()), version="1")


async def _inference(stack: contextlib.AsyncExitStack) -> Registry:
    registry = Registry()
    for name, interval_s, kind in (
        (CHAT, 0.0, ServedKind.CHAT),
        (SLOW, 0.01, ServedKind.CHAT),
        (COMPLETER, 0.0, ServedKind.COMPLETION),
    ):
        model = await served(name, EchoSettings(step_interval_s=interval_s), kind)
        registry.put(model)
        stack.push_async_callback(model.loaded.engine.close)
    known = {CHAT: ServedKind.CHAT, SLOW: ServedKind.CHAT, COMPLETER: ServedKind.COMPLETION}
    known[VECTORS] = ServedKind.EMBEDDING
    registry.know([Known(name, kind) for name, kind in known.items()])
    return registry


async def _embedding(stack: contextlib.AsyncExitStack) -> Registration:
    threads = stack.enter_context(contextlib.closing(Threads()))
    model = await embedding_model(VECTORS)
    stack.push_async_callback(model.loaded.close)
    registry = EmbeddingRegistry()
    registry.put(model)
    registry.know([Known(VECTORS, ServedKind.EMBEDDING)])
    return embedding_service(registry, threads)

"""The root paths before real services, in one process: a catalogue, InferenceService and
EmbeddingService on echo engines, and a TrainingService whose jobs nobody runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from penstock.embedding.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from services.embedding.embedding import Embedder
from services.embedding.engines.echo_engine import EchoLoader as EchoVectors
from services.embedding.preparing import Preparer, Threads
from services.embedding.registry import Registry as VectorRegistry
from services.embedding.reranking import Reranker
from services.embedding.servicer import EmbeddingServicer
from services.inference.engines.echo_engine import EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind
from services.training.jobs import JobLimits
from tests.integration.embedding.embedding_platform import served as served_vectors
from tests.integration.gateway.conftest import live_edge
from tests.integration.inference.inference_platform import served
from tests.integration.training.file_platform import SERVICE_TOKEN, Platform, platform, tokens
from tests.integration.training.job_platform import catalogue

USER = {"authorization": "Bearer my-token"}
CONTEXT = 2048
PARAMETERS = {"base": 7_241_732_096, "writer": 134_515_008, "vectors": 0}
READY = model_pb2.Observation.STATE_READY


@dataclass
class Root:
    """The edge and everything behind it."""

    http: httpx.AsyncClient
    host: str
    port: int
    models: ModelServiceStub
    registry: Registry
    training: Platform

    async def report(self, **states: model_pb2.Observation.State.ValueType) -> None:
        """Says what a serving process says of the first revisions of its models."""
        seen = [
            model_pb2.Observation(
                reporter="one",
                revision=f"models/{model_id}/revisions/1",
                state=state,
                parameter_count=PARAMETERS[model_id],
            )
            for model_id, state in states.items()
        ]
        report = model_pb.ReportModelStateRequest(
            reporter="one", service="inference", observations=seen
        )
        metadata = (("authorization", f"Bearer {SERVICE_TOKEN}"),)
        await self.models.ReportModelState(report, metadata=metadata)


@contextlib.asynccontextmanager
async def root_platform(folder: Path, requests_per_minute: int = 10**6) -> AsyncIterator[Root]:
    """Serves the chat model `base`, the completion model `writer` and the embedding model
    `vectors`; all are reported to be ready. `slow` takes 50 ms a token and is in no catalogue."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(catalogue(folder))
        limits = JobLimits(datasets={"hours": ""})
        training = await stack.enter_async_context(
            platform(folder, catalogue=address, job_limits=limits)
        )
        registry = Registry()
        inference = await stack.enter_async_context(_inference(folder, registry))
        embedding = await stack.enter_async_context(_embedding(folder))
        settings = Settings(
            api=ApiSettings(max_requests_per_minute=requests_per_minute),
            data_dir=folder,
            api_tokens=("my-token", "your-token"),
            addresses={
                **dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1"),
                "model": address,
                "training": training.server.address,
                "inference": inference,
                "embedding": embedding,
            },
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        client = httpx.AsyncClient(base_url=f"http://{host}:{port}", headers=USER, timeout=60)
        http = await stack.enter_async_context(client)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        root = Root(http, host, port, ModelServiceStub(channel), registry, training)
        await root.report(base=READY, writer=READY, vectors=READY)
        yield root


@contextlib.asynccontextmanager
async def _inference(folder: Path, registry: Registry) -> AsyncIterator[str]:
    settings = EchoSettings(context_length=CONTEXT, max_batch_size=4, queue_limit=64)
    slow = EchoSettings(context_length=CONTEXT, step_interval_s=0.05)
    models = [
        await served("base", settings),
        await served("writer", settings, ModelKind.COMPLETION),
        await served("slow", slow),
    ]
    for model in models:
        registry.put(model)
    aliases = {"base": ("default",)}
    registry.know([Known(model.id, model.kind, aliases.get(model.id, ())) for model in models])
    generator, authenticator = Generator(registry), tokens(folder)
    steps = StepServicer(generator, authenticator, slow_reader_timeout_s=30)
    text = InferenceServicer(generator, registry)
    server = Server(
        ServerSettings(),
        [
            Registration(add_InferenceServiceServicer_to_server, text),
            Registration(add_step_service, steps),
        ],
        authenticator=authenticator,
    )
    await server.start()
    yield server.address
    await server.stop(0)
    for model in models:
        await model.loaded.engine.close()


@contextlib.asynccontextmanager
async def _embedding(folder: Path) -> AsyncIterator[str]:
    registry = VectorRegistry()
    model = await served_vectors("vectors", EchoVectors())
    registry.put(model)
    registry.know([Known("vectors", ModelKind.EMBEDDING)])
    with contextlib.closing(Threads()) as threads:
        preparer = Preparer(threads, most_tokens=30_000)
        servicer = EmbeddingServicer(
            registry, Embedder(registry, preparer), Reranker(registry, preparer)
        )
        server = Server(
            ServerSettings(),
            [Registration(add_EmbeddingServiceServicer_to_server, servicer)],
            authenticator=tokens(folder),
        )
        await server.start()
        yield server.address
        await server.stop(0)
    await model.loaded.close()

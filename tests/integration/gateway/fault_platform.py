"""An edge of all dialects before real services that can be short of everything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import uvicorn
from penstock.embedding.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server
from penstock.image.v1.image_service_pb2_grpc import add_ImageServiceServicer_to_server
from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from penstock.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server

from gateway.settings import SERVICE_PORTS, Settings
from gateway.settings_auth import AuthSettings
from policy.oidc import JwtRules, JwtVerifier
from policy.token_store import TokenSources
from services.embedding.batching import Limits as EmbeddingLimits
from services.embedding.embedding import Embedder
from services.embedding.engine import EncoderSpec
from services.embedding.engines import echo_engine as echo_encoder
from services.embedding.loading import Batcher, LoadedModel
from services.embedding.preparing import Preparer as EmbeddingPreparer
from services.embedding.preparing import Threads as EmbeddingThreads
from services.embedding.registry import Registry as EmbeddingRegistry
from services.embedding.registry import ServedModel as EmbeddingModel
from services.embedding.requests import Truncation
from services.embedding.reranking import Reranker
from services.embedding.servicer import EmbeddingServicer
from services.image.directory import Directory
from services.image.drawing import Drawer
from services.image.engines import echo_engine as echo_painter
from services.image.limits import Limits as ImageLimits
from services.image.loading import Serving
from services.image.options import OptionsFile
from services.image.places import QueueLimits
from services.image.preparing import Preparer as ImagePreparer
from services.image.registry import Registry as ImageRegistry
from services.image.servicer import ImageServicer
from services.image.sources import Threads as ImageThreads
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
from services.retrieval.parsing import Extractor
from services.retrieval.stores import open_store
from services.rpc.authentication import CallAuthenticator, Identities
from services.rpc.metering import Metering
from services.rpc.server import Registration, Server
from services.serving.models import Known, ModelSettings
from services.serving.models import ModelKind as ServedKind
from services.settings import RetrievalSettings
from services.usage.journal import Journal
from tests.integration.gateway.conftest import live_edge
from tests.integration.image.image_platform import served as served_painter
from tests.integration.inference.inference_platform import served
from tests.integration.retrieval.service.rag_platform import (
    documents_in,
    retrieval_service,
    serving,
)
from tests.integration.training import file_platform
from tests.ready_databases import ready_file
from tests.unit.policy.identity_provider import AUDIENCE, ISSUER, SigningKey, key_set

QUICK, SLOW, COMING, ENDLESS = "quick", "slow", "coming", "endless"
"""What text, embedding and image models are called: that answers at once, that has one place and
takes long, and that nobody serves yet. Those of embeddings and images have a letter before.
`ENDLESS` takes texts of any length."""
SERVICE_TOKEN = "service-token"
_LETTERS = {"": ModelKind.CHAT, "e": ModelKind.EMBEDDING, "i": ModelKind.IMAGE}
_JOURNAL_BYTES = 1_000_000


@dataclass
class FaultPlatform:
    """The edge, and the services behind it."""

    url: str
    key: SigningKey
    servers: dict[str, Server]
    journal: Journal
    stack: contextlib.AsyncExitStack
    edge: uvicorn.Server
    registry: Registry
    """Of text models."""

    async def client(self, *roles: str) -> httpx.AsyncClient:
        """Somebody who is signed in, with these roles."""
        headers = {"authorization": f"Bearer {self.key.sign(roles=list(roles))}"}
        http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)
        return await self.stack.enter_async_context(http)

    @contextlib.contextmanager
    def full_disk(self) -> Any:
        """Leaves the journals of usage no room."""
        ballast = self.journal.folder / "ballast.jsonl"
        ballast.write_bytes(b"x" * _JOURNAL_BYTES)
        self.journal.measure()
        try:
            yield
        finally:
            ballast.unlink()
            self.journal.measure()


@contextlib.asynccontextmanager
async def fault_platform(folder: Path) -> AsyncIterator[FaultPlatform]:
    """Everything, running."""
    key = SigningKey("key")
    (folder / "jwks.json").write_bytes(key_set(key))
    jwt = JwtRules(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(folder / "jwks.json"))
    more = Identities(jwt=JwtVerifier(jwt))
    authenticator = CallAuthenticator(TokenSources(service_token=SERVICE_TOKEN), more=more)
    journal = Journal(folder / "usage", "all", most_bytes=_JOURNAL_BYTES)
    meter = Metering(journal, refuses=True)
    async with contextlib.AsyncExitStack() as stack:
        training = await stack.enter_async_context(file_platform.platform(folder, identities=more))
        registry = await _texts(stack)
        registrations = {
            "model": (await _catalogue(stack, folder),),
            "inference": _inference(registry, authenticator, meter),
            "embedding": (await _embeddings(stack, meter),),
            "image": (await _images(stack, folder, meter),),
        }
        servers = {
            name: await stack.enter_async_context(serving(authenticator, *found))
            for name, found in registrations.items()
        }
        servers["training"] = training.server
        targets = {name: server.address for name, server in servers.items()}
        answering = await _retrieval(stack, folder, targets)
        servers["retrieval"] = await stack.enter_async_context(serving(authenticator, answering))
        addresses = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
        addresses |= {name: server.address for name, server in servers.items()}
        settings = Settings(
            auth=AuthSettings(jwt=jwt),
            service_token=SERVICE_TOKEN,
            data_dir=folder,
            addresses=addresses,
        )
        _, edge, host, port = await stack.enter_async_context(live_edge(settings))
        url = f"http://{host}:{port}"
        yield FaultPlatform(url, key, servers, journal, stack, edge, registry)


async def _catalogue(stack: contextlib.AsyncExitStack, folder: Path) -> Registration:
    opened = await SqlStore.open(await ready_file(folder / "model.db", SqlStore.open))
    store = await stack.enter_async_context(contextlib.aclosing(opened))
    feed = ChangeFeed()
    catalog = Catalog(store, announce=feed.announce)
    reports = Reports(catalog)
    seeds = [
        Seed(letter + name, str(folder), kind)
        for letter, kind in _LETTERS.items()
        for name in (QUICK, SLOW, COMING)
    ]
    await plant(catalog, seeds)
    able = Capabilities(context_length=256, dimensions=64)
    seen = [
        Observation("one", seed.id, 1, ObservedState.READY, utc_now(), capabilities=able)
        for seed in seeds
        if not seed.id.endswith(COMING)
    ]
    await reports.report("one", "inference", "", seen)
    servicer = ModelServicer(
        catalog, reports, Watches(catalog, feed), SourcePolicy(()), version="1"
    )
    return Registration(add_ModelServiceServicer_to_server, servicer)


async def _texts(stack: contextlib.AsyncExitStack) -> Registry:
    registry = Registry()
    for name, settings in (
        (QUICK, EchoSettings(context_length=256)),
        (SLOW, EchoSettings(step_interval_s=0.1, max_batch_size=1, queue_limit=1)),
        (ENDLESS, EchoSettings(context_length=10**6)),
    ):
        model = await served(name, settings)
        registry.put(model)
        stack.push_async_callback(model.loaded.engine.close)
    registry.know([Known(name, ServedKind.CHAT) for name in (QUICK, SLOW, COMING, ENDLESS)])
    return registry


def _inference(
    registry: Registry, authenticator: CallAuthenticator, meter: Metering
) -> tuple[Registration, ...]:
    generator = Generator(registry, meter=meter)
    return (
        Registration(
            add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
        ),
        Registration(add_step_service, StepServicer(generator, authenticator)),
    )


async def _embeddings(stack: contextlib.AsyncExitStack, meter: Metering) -> Registration:
    threads = stack.enter_context(contextlib.closing(EmbeddingThreads()))
    registry = EmbeddingRegistry()
    for name, interval_s in ((f"e{QUICK}", 0.0), (f"e{SLOW}", 30.0)):
        settings = echo_encoder.EchoSettings(context_length=128, batch_interval_s=interval_s)
        spec = EncoderSpec(name, "1", Path())
        encoder = await echo_encoder.EchoLoader(settings).load(spec, lambda _: None)
        batcher = Batcher(encoder, EmbeddingLimits(calls=1 if interval_s else 256))
        loaded = LoadedModel(encoder, batcher, encoder.info.dimensions)
        registry.put(
            EmbeddingModel(
                name,
                ServedKind.EMBEDDING,
                f"models/{name}/revisions/1",
                loaded,
                ModelSettings(),
            )
        )
        stack.push_async_callback(loaded.close)
    registry.know([Known(f"e{name}", ServedKind.EMBEDDING) for name in (QUICK, SLOW, COMING)])
    preparer = EmbeddingPreparer(threads, 100_000)
    refuse = Truncation.REFUSE
    servicer = EmbeddingServicer(
        registry,
        Embedder(registry, preparer, truncation=refuse, meter=meter),
        Reranker(registry, preparer, truncation=refuse, meter=meter),
    )
    return Registration(add_EmbeddingServiceServicer_to_server, servicer)


async def _images(stack: contextlib.AsyncExitStack, folder: Path, meter: Metering) -> Registration:
    registry = ImageRegistry()
    for name, interval_s in ((f"i{QUICK}", 0.0), (f"i{SLOW}", 0.2)):
        settings = echo_painter.EchoSettings(interval_s, 64, 64, max_prompt_tokens=75)
        limits = Serving(QueueLimits(jobs=1 if interval_s else 8))
        model = await served_painter(name, echo_painter.EchoLoader(settings), limits)
        registry.put(model)
        stack.push_async_callback(model.loaded.close)
        stack.push_async_callback(model.loaded.batcher.close)
    registry.know([Known(f"i{name}", ServedKind.IMAGE) for name in (QUICK, SLOW, COMING)])
    threads = stack.enter_context(contextlib.closing(ImageThreads()))
    drawer = Drawer(
        registry,
        OptionsFile(folder / "image-options.json"),
        Directory(),
        ImagePreparer(threads, ImageLimits(max_steps=150), "Penstock 0"),
        meter=meter,
    )
    return Registration(add_ImageServiceServicer_to_server, ImageServicer(drawer, threads))


async def _retrieval(
    stack: contextlib.AsyncExitStack, folder: Path, targets: dict[str, str]
) -> Registration:
    own = RetrievalSettings(address="", embedding_model=f"e{QUICK}")
    store = await open_store(await documents_in(folder), own)
    stack.push_async_callback(store.close)
    extractor = await stack.enter_async_context(Extractor())
    registration, _ = retrieval_service(stack, store, extractor, targets, own)
    return registration


@contextlib.asynccontextmanager
async def wrong_peer(answer: bytes | None) -> AsyncIterator[str]:
    """Something else that speaks gRPC where a service should be: it says the same to every call,
    or, without an answer, knows no method. Gives its address."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            async def say(request: bytes, context: Any) -> bytes:
                assert answer is not None
                return answer

            return None if answer is None else grpc.unary_unary_rpc_method_handler(say)

    server = grpc.aio.server(handlers=[Anything()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)

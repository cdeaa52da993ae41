"""RetrievalService with everything that it calls, each on a socket of its own."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from penstock.access.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from penstock.embedding.v1.embedding_service_pb2_grpc import (
    add_EmbeddingServiceServicer_to_server,
)
from penstock.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)
from penstock.model.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import upsert_pb2 as upsert_pb
from penstock.retrieval.v1.retrieval_service_pb2_grpc import (
    RetrievalServiceStub,
    add_RetrievalServiceServicer_to_server,
)

from policy.key_secrets import digest
from policy.principals import Limits as PolicyLimits
from policy.token_store import TokenSources
from services.embedding.batching import Limits
from services.embedding.embedding import Embedder
from services.embedding.engine import EncoderSpec
from services.embedding.engines import echo_engine as echo_encoder
from services.embedding.loading import Batcher, LoadedModel
from services.embedding.preparing import Preparer, Threads
from services.embedding.registry import Registry as EmbeddingRegistry
from services.embedding.registry import ServedModel as EmbeddingModel
from services.embedding.requests import Truncation
from services.embedding.reranking import Reranker
from services.embedding.servicer import EmbeddingServicer
from services.inference.engine import ModelSpec
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry as InferenceRegistry
from services.inference.registry import ServedModel as ChatModel
from services.inference.servicer import InferenceServicer
from services.model.catalog import Catalog, utc_now
from services.model.key_feed import KeyFeed
from services.model.key_servicer import KeyServicer
from services.model.keys import Keys
from services.model.records import Capabilities, ModelKind, Observation, ObservedState
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.keys import SqlKeys
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, Watches
from services.retrieval.__main__ import build
from services.retrieval.clients import IDEMPOTENT, CatalogueClient, EmbeddingClient, InferenceClient
from services.retrieval.parsing import Extractor
from services.retrieval.servicer import Domain, RetrievalServicer
from services.retrieval.store import Store
from services.retrieval.stores import open_store
from services.rpc.authentication import CallAuthenticator
from services.rpc.channels import channel
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelSettings
from services.serving.models import ModelKind as ServedKind
from services.settings import RetrievalSettings
from tests.ready_databases import ready_file

TENANTS = {"user": ["default"], "acme": ["acme"], "both": ["default", "acme"], "root": ["*"]}
"""Tokens, and the tenants that they reach."""
PARENT = "tenants/default"
CONTEXT_LENGTH = 128
CHATS = {"echo": 0.0, "slow": 0.02}
"""Chat models, and the time between their steps."""


def credential(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


USER = credential("user")


def tokens(folder: Path) -> CallAuthenticator:
    """Everybody who calls: users by the names of `TENANTS`, and an admin."""
    entries = [
        {"id": name, "sha256": digest(name), "name": name, "roles": ["user"], "tenants": tenants}
        for name, tenants in TENANTS.items()
    ]
    admin = {"id": "admin", "sha256": digest("admin"), "name": "admin", "roles": ["admin"]}
    file = folder / "tokens.json"
    file.write_text(json.dumps({"tokens": [*entries, admin]}))
    return CallAuthenticator(TokenSources(service_token="service", token_file=file))


@dataclass
class Platform:
    """The running services."""

    stub: Any
    inference: Any
    peers: "Peers"
    store: Store
    domain: Domain

    async def collection(self, id: str = "docs", **values: Any) -> str:
        """Makes a collection and returns its name."""
        metadata = credential(values.pop("token", "user"))
        parent = values.pop("parent", PARENT)
        asked = collection_pb.Collection(**values)
        request = pb.CreateCollectionRequest(parent=parent, collection=asked, collection_id=id)
        return (await self.stub.CreateCollection(request, metadata=metadata)).name

    async def upsert(
        self,
        collection: str,
        documents: Iterable[document_pb.Document],
        *,
        token: str = "user",
        **start: Any,
    ) -> list[upsert_pb.UpsertDocumentsEvent]:
        """Sends documents and returns every event."""
        requests = upserts(collection, documents, **start)
        call = self.stub.UpsertDocuments(requests, metadata=credential(token))
        return [event async for event in call]

    async def load(self, texts: dict[str, str], id: str = "docs", **values: Any) -> str:
        """Makes a collection of texts."""
        name = await self.collection(id, **values)
        documents = [document_pb.Document(name=k, text=v) for k, v in texts.items()]
        events = await self.upsert(name, documents, token=values.get("token", "user"))
        assert events[-1].finish.created_count == len(texts), events
        return name

    async def search(self, collection: str, text: str, **values: Any) -> list[Any]:
        request = pb.SearchRequest(collection=collection, text=text, **values)
        return list((await self.stub.Search(request, metadata=USER)).hits)


def upserts(
    collection: str, documents: Iterable[document_pb.Document], **start: Any
) -> list[pb.UpsertDocumentsRequest]:
    """The messages of a stream."""
    begin = upsert_pb.UpsertStart(collection=collection, **start)
    return [
        pb.UpsertDocumentsRequest(start=begin),
        *(pb.UpsertDocumentsRequest(document=document) for document in documents),
    ]


async def broken(call: Any) -> tuple[list[Any], grpc.aio.AioRpcError]:
    """Reads a stream that fails: its events, and how it ended."""
    events = []
    try:
        async for event in call:
            events.append(event)
    except grpc.aio.AioRpcError as error:
        return events, error
    raise AssertionError("the stream ended well")


@contextlib.asynccontextmanager
async def serving(
    authenticator: CallAuthenticator, *registrations: Registration, address: str = "127.0.0.1:0"
) -> AsyncIterator[Server]:
    """A server of its own, on a free port unless told otherwise."""
    settings = ServerSettings(address=address, grace_s=1)
    server = Server(settings, registrations, authenticator=authenticator)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def embedding_model(
    id: str, interval_s: float = 0.0, *, rerank: bool = False, dimensions: int = 64
) -> EmbeddingModel:
    """A model of EmbeddingService's own echo engine."""
    settings = echo_encoder.EchoSettings(
        context_length=CONTEXT_LENGTH, batch_interval_s=interval_s, dimensions=dimensions
    )
    spec = EncoderSpec(id, "1", Path(), scores_pairs=rerank)
    encoder = await echo_encoder.EchoLoader(settings).load(spec, lambda _: None)
    loaded = LoadedModel(encoder, Batcher(encoder, Limits()), encoder.info.dimensions)
    kind = ServedKind.RERANK if rerank else ServedKind.EMBEDDING
    return EmbeddingModel(id, kind, f"models/{id}/revisions/1", loaded, ModelSettings())


async def chat_model(id: str, interval_s: float) -> ChatModel:
    """A model of InferenceService's own echo engine."""
    settings = EchoSettings(max_batch_size=4, queue_limit=4, step_interval_s=interval_s)
    loaded = await EchoLoader(settings).load(ModelSpec(id, "1", Path()), lambda _: None)
    return ChatModel(id, ServedKind.CHAT, f"models/{id}/revisions/1", loaded, ModelSettings())


@contextlib.asynccontextmanager
async def model_service(authenticator: CallAuthenticator, folder: Path) -> AsyncIterator[Server]:
    """A catalogue of what the others serve."""
    url = await ready_file(folder / "model.db", SqlStore.open)
    async with contextlib.aclosing(await SqlStore.open(url)) as store:
        feed = ChangeFeed()
        catalog = Catalog(store, announce=feed.announce, report_interval=timedelta(hours=1))
        reports = Reports(catalog)
        embedding = [Seed(id, str(folder), ModelKind.EMBEDDING) for id in ("words", "zero")]
        await plant(
            catalog,
            [
                *embedding,
                Seed("absent", str(folder), ModelKind.EMBEDDING, aliases=("gone",)),
                *(Seed(id, str(folder), ModelKind.CHAT) for id in CHATS),
                Seed("judge", str(folder), ModelKind.RERANK),
            ],
        )
        able = Capabilities(shortening=True, context_length=CONTEXT_LENGTH, dimensions=64)
        await reports.report(
            "embedding-1",
            "embedding",
            "",
            [
                Observation(
                    "embedding-1", seed.id, 1, ObservedState.READY, utc_now(), capabilities=able
                )
                for seed in embedding
            ],
        )
        servicer = ModelServicer(
            catalog, reports, Watches(catalog, feed), SourcePolicy(()), version="1"
        )
        kept = SqlKeys(store)
        key_feed = KeyFeed(kept)
        keys = KeyServicer(
            Keys(kept, announce=key_feed.announced), key_feed, defaults=PolicyLimits()
        )
        async with serving(
            authenticator,
            Registration(add_ModelServiceServicer_to_server, servicer),
            Registration(add_KeyServiceServicer_to_server, keys),
        ) as server:
            yield server


def embedding_service(registry: EmbeddingRegistry, threads: Threads) -> Registration:
    preparer = Preparer(threads, 100_000)
    return Registration(
        add_EmbeddingServiceServicer_to_server,
        EmbeddingServicer(
            registry,
            Embedder(registry, preparer, truncation=Truncation.REFUSE),
            Reranker(registry, preparer, truncation=Truncation.REFUSE),
        ),
    )


def retrieval_service(
    stack: contextlib.AsyncExitStack,
    store: Store,
    extractor: Extractor,
    targets: dict[str, str],
    settings: RetrievalSettings,
) -> tuple[Registration, Domain]:
    def to(name: str) -> grpc.aio.Channel:
        opened = channel(targets[name], idempotent=IDEMPOTENT)
        stack.push_async_callback(opened.close)
        return opened

    models = CatalogueClient(to("model"), settings.embedding_model)
    domain = build(settings, store, extractor, models, EmbeddingClient(to("embedding")))
    stack.push_async_callback(domain.searching.close)
    servicer = RetrievalServicer(domain, InferenceClient(to("inference")))
    return Registration(add_RetrievalServiceServicer_to_server, servicer), domain


@dataclass
class Peers:
    """What RetrievalService calls."""

    authenticator: CallAuthenticator
    servers: dict[str, Server]
    embeddings: EmbeddingRegistry
    threads: Threads

    @property
    def targets(self) -> dict[str, str]:
        return {name: server.address for name, server in self.servers.items()}


@contextlib.asynccontextmanager
async def peers(folder: Path) -> AsyncIterator[Peers]:
    """Models, embeddings and chats."""
    authenticator = tokens(folder)
    async with contextlib.AsyncExitStack() as stack:
        threads = stack.enter_context(contextlib.closing(Threads()))
        embeddings, chats = EmbeddingRegistry(), InferenceRegistry()
        for model in (
            await embedding_model("words"),
            await embedding_model("zero"),
            await embedding_model("judge", rerank=True),
        ):
            embeddings.put(model)
            stack.push_async_callback(model.loaded.close)
        embeddings.know(
            [
                *(Known(id, ServedKind.EMBEDDING) for id in ("words", "zero", "absent")),
                Known("judge", ServedKind.RERANK),
            ]
        )
        chats.know([Known(id, ServedKind.CHAT) for id in CHATS])
        for id, interval_s in CHATS.items():
            chat = await chat_model(id, interval_s)
            chats.put(chat)
            stack.push_async_callback(chat.loaded.engine.close)
        inference = Registration(
            add_InferenceServiceServicer_to_server,
            InferenceServicer(Generator(chats, slow_reader_timeout_s=5.0), chats),
        )
        embedding = embedding_service(embeddings, threads)
        servers = {
            "model": await stack.enter_async_context(model_service(authenticator, folder)),
            "embedding": await stack.enter_async_context(serving(authenticator, embedding)),
            "inference": await stack.enter_async_context(serving(authenticator, inference)),
        }
        yield Peers(authenticator, servers, embeddings, threads)


async def documents_in(folder: Path) -> str:
    """The service's database in a folder; gives its URL."""
    return await ready_file(folder / "retrieval.db", _open)


async def _open(url: str) -> Store:
    return await open_store(url, RetrievalSettings(address=""))


@contextlib.asynccontextmanager
async def platform(folder: Path, url: str = "", **settings: Any) -> AsyncIterator[Platform]:
    """Everything, running; documents are kept in SQLite unless a database is named."""
    own = RetrievalSettings(address="", **settings)
    async with contextlib.AsyncExitStack() as stack:
        others = await stack.enter_async_context(peers(folder))
        store = await open_store(url or await documents_in(folder), own)
        stack.push_async_callback(store.close)
        extractor = await stack.enter_async_context(Extractor())
        registration, domain = retrieval_service(stack, store, extractor, others.targets, own)
        server = await stack.enter_async_context(serving(others.authenticator, registration))
        to_retrieval = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        to_inference = await stack.enter_async_context(
            grpc.aio.insecure_channel(others.targets["inference"])
        )
        yield Platform(
            stub=RetrievalServiceStub(to_retrieval),
            inference=InferenceServiceStub(to_inference),
            peers=others,
            store=store,
            domain=domain,
        )

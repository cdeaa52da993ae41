"""Runs RetrievalService: `python -m services.retrieval [--port N] [--config F] [--data-dir D]`."""

import asyncio
import contextlib

import grpc
from penstock.retrieval.v1.retrieval_service_pb2_grpc import add_RetrievalServiceServicer_to_server

from policy.vouchers import Vouchers
from services.retrieval.answering import Answering
from services.retrieval.catalog import ChunkDefaults, Collections
from services.retrieval.clients import (
    IDEMPOTENT,
    CatalogueClient,
    EmbeddingClient,
    InferenceClient,
)
from services.retrieval.documents import Documents
from services.retrieval.ingest import Ingest, IngestSettings
from services.retrieval.parsing import Extractor
from services.retrieval.prompts import Prompts
from services.retrieval.records import SearchMode
from services.retrieval.searching import Searching
from services.retrieval.servicer import Domain, RetrievalServicer
from services.retrieval.store import Store
from services.retrieval.stores import open_store
from services.rpc.channels import channel
from services.rpc.process import (
    authenticator_of,
    client_tls,
    limited,
    run_service,
    server_settings,
)
from services.rpc.server import Registration, serve
from services.settings import RetrievalSettings, Settings, SettingsError


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    own = settings.services.retrieval
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await open_store(own.database_url, own)
        except ValueError as error:
            raise SettingsError(f"[services.retrieval] database_url: {error}") from error
        stack.push_async_callback(store.close)
        extractor = await stack.enter_async_context(Extractor())
        limits = await stack.enter_async_context(limited(settings))
        vouchers = Vouchers(settings.auth.service_token)

        def to(target: str) -> grpc.aio.Channel:
            # Without the service's token: calls go out under the credential of whoever calls.
            opened = channel(
                target, tls=client_tls(settings), vouchers=vouchers, idempotent=IDEMPOTENT
            )
            stack.push_async_callback(opened.close)
            return opened

        services = settings.services
        models = CatalogueClient(to(services.model.target), own.embedding_model)
        embedder = EmbeddingClient(to(services.embedding.target))
        domain = build(own, store, extractor, models, embedder)
        stack.push_async_callback(domain.searching.close)
        sweeping = asyncio.create_task(domain.collections.sweep(own.sweep_interval_s))
        try:
            await serve(
                "retrieval",
                server_settings(settings, "retrieval"),
                [
                    Registration(
                        add_RetrievalServiceServicer_to_server,
                        RetrievalServicer(domain, InferenceClient(to(services.inference.target))),
                    )
                ],
                authenticator=authenticator_of(settings),
                limits=limits.calls,
            )
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)


def build(
    settings: RetrievalSettings,
    store: Store,
    extractor: Extractor,
    models: CatalogueClient,
    embedder: EmbeddingClient,
) -> Domain:
    """Puts the domain together."""
    searching = Searching(store, embedder, default_mode=SearchMode[settings.search_mode.upper()])
    prompts = Prompts(store)
    defaults = ChunkDefaults(settings.chunk_tokens, settings.chunk_overlap_tokens)
    return Domain(
        collections=Collections(store, models, embedder, defaults=defaults),
        documents=Documents(store),
        ingest=Ingest(
            store,
            embedder,
            extractor,
            IngestSettings(settings.upsert_batch_bytes, settings.embed_call_tokens),
        ),
        prompts=prompts,
        searching=searching,
        answering=Answering(store, searching, prompts),
    )


if __name__ == "__main__":
    run_service("retrieval", main)

"""Builds the edge from its settings and its clients."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.auth import Authenticator
from gateway.batch_owners import BatchOwners
from gateway.batches import BatchWorker
from gateway.clients import Clients
from gateway.cors import Cors
from gateway.default_models import DefaultModels
from gateway.description import description
from gateway.dialects.anthropic.envelope import AnthropicDialect
from gateway.dialects.anthropic.routes import routes as anthropic_routes
from gateway.dialects.botserver.envelope import BotserverDialect
from gateway.dialects.botserver.routes import routes as botserver_routes
from gateway.dialects.gel.envelope import GelDialect
from gateway.dialects.gel.routes import routes as gel_routes
from gateway.dialects.ollama.envelope import OllamaDialect
from gateway.dialects.ollama.routes import routes as ollama_routes
from gateway.dialects.open_inference.envelope import OpenInferenceDialect
from gateway.dialects.open_inference.routes import routes as open_inference_routes
from gateway.dialects.openai.batch_schema import ENDPOINTS
from gateway.dialects.openai.embedding_routes import Embeddings
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.openai.prefixes import Prefix
from gateway.dialects.openai.prompt_routes import Prompts
from gateway.dialects.openai.routes import ChatCompletions, Completions
from gateway.dialects.openai.routes import routes as openai_routes
from gateway.dialects.velesio.envelope import VelesioDialect, error_frame
from gateway.dialects.velesio.routes import OpenAIForms
from gateway.dialects.velesio.routes import routes as velesio_routes
from gateway.dialects.webui.routes import routes as webui_routes
from gateway.generations import Generations
from gateway.guard import Guard
from gateway.health import Health
from gateway.key_feed import KeyWait, following_keys
from gateway.middleware import Edge
from gateway.openapi import OpenApi
from gateway.rate_limits import RequestLimits
from gateway.settings import Settings
from gateway.telemetry import routed, watched


def build(settings: Settings, clients: Clients) -> ASGIApp:
    """Makes the ASGI application. Its lifespan starts and closes the clients."""
    openai, gel, velesio = OpenAIDialect(), GelDialect(), VelesioDialect()
    botserver, anthropic, ollama = BotserverDialect(), AnthropicDialect(), OllamaDialect()
    open_inference = OpenInferenceDialect()
    limits = RequestLimits(settings)
    guard = Guard(Authenticator(settings), limits)
    health = Health(settings, clients.health, KeyWait(guard.authenticator.keys))
    models = DefaultModels(clients)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None, None]:
        await clients.start()
        batches.start()
        try:
            async with following_keys(
                guard.authenticator.keys, clients.keys, settings.service_token
            ):
                with watched(clients.steps):
                    yield
        finally:
            await batches.stop()
            await clients.close()
            await limits.close()

    router = Router(
        routes=routed(
            [
                # The busiest come first: a path is matched against one after the other.
                *openai_routes(settings, clients, guard, openai),
                *anthropic_routes(settings, clients, guard, anthropic),
                *velesio_routes(settings, clients, guard, velesio, _root_forms(settings, clients)),
                *gel_routes(settings, clients, guard, gel),
                *webui_routes(settings, clients, guard, velesio),
                *botserver_routes(
                    settings,
                    clients,
                    guard,
                    botserver,
                    chat=ChatCompletions(
                        settings, Generations(settings, clients), Prefix(models.chat, pings=False)
                    ),
                    embeddings=Embeddings(settings, clients, models.embedding),
                ),
                *ollama_routes(settings, clients, guard, ollama),
                *open_inference_routes(settings, clients, guard, open_inference, health),
                Route("/health", health, methods=["GET", "POST"]),
                Route(
                    "/openapi.json", guard.protect(OpenApi(description), openai), methods=["GET"]
                ),
            ]
        ),
        redirect_slashes=False,
        lifespan=lifespan,
    )
    # The last dialect answers for paths that are nobody's.
    dialects = [gel, velesio, botserver, anthropic, ollama, open_inference, openai]
    edge = Edge(router, dialects, Cors(settings.api))
    owners = BatchOwners(guard.authenticator)
    batches = BatchWorker(settings, clients, owners, edge, openai.envelope, ENDPOINTS)
    return edge


def _root_forms(settings: Settings, clients: Clients) -> OpenAIForms:
    """What is in OpenAI's form at the root, with the defaults that Velesio documents."""
    generations, models = Generations(settings, clients), DefaultModels(clients)
    chats = Prefix(
        models.chat, max_tokens=150, temperature=0.7, error_frame=error_frame, pings=False
    )
    texts = replace(chats, default_model=models.text, top_p=0.9, top_k=40)
    return OpenAIForms(
        chat=ChatCompletions(settings, generations, chats),
        prompt=Prompts(settings, clients, models.chat),
        complete=Completions(settings, generations, texts).answer,
        embed=Embeddings(settings, clients, models.embedding).answer,
    )

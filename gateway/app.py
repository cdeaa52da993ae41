"""Builds the edge from its settings and its clients."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.auth import Authenticator
from gateway.clients import Clients
from gateway.cors import Cors
from gateway.dialects.botserver.envelope import BotserverDialect
from gateway.dialects.botserver.operations import OPERATIONS as BOTSERVER_OPERATIONS
from gateway.dialects.botserver.routes import routes as botserver_routes
from gateway.dialects.gel.envelope import GelDialect
from gateway.dialects.gel.operations import OPERATIONS as GEL_OPERATIONS
from gateway.dialects.gel.routes import routes as gel_routes
from gateway.dialects.openai.answer_schema import ErrorBody
from gateway.dialects.openai.envelope import OpenAIDialect
from gateway.dialects.openai.operations import OPERATIONS
from gateway.dialects.openai.routes import routes as openai_routes
from gateway.dialects.velesio.envelope import VelesioDialect
from gateway.dialects.webui.operations import OPERATIONS as WEBUI_OPERATIONS
from gateway.dialects.webui.routes import routes as webui_routes
from gateway.guard import Guard
from gateway.health import Health
from gateway.middleware import Edge
from gateway.openapi import HEALTH, OpenApi, document
from gateway.rate_limits import RequestLimiter
from gateway.settings import Settings


def build(settings: Settings, clients: Clients) -> ASGIApp:
    """Makes the ASGI application. Its lifespan starts and closes the clients."""
    openai, gel, velesio = OpenAIDialect(), GelDialect(), VelesioDialect()
    botserver = BotserverDialect()
    limit = settings.api.max_requests_per_minute
    guard = Guard(Authenticator(settings), RequestLimiter(limit) if limit else None)
    operations = [*HEALTH, *OPERATIONS, *GEL_OPERATIONS, *WEBUI_OPERATIONS]
    operations += BOTSERVER_OPERATIONS
    described = document(operations, ErrorBody)

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None, None]:
        await clients.start()
        try:
            yield
        finally:
            await clients.close()

    router = Router(
        routes=[
            # The busiest come first: a path is matched against one after the other.
            *openai_routes(settings, clients, guard, openai),
            *gel_routes(settings, clients, guard, gel),
            *webui_routes(settings, clients, guard, velesio),
            *botserver_routes(settings, clients, guard, botserver),
            Route("/health", Health(settings, clients.health), methods=["GET", "POST"]),
            Route("/openapi.json", guard.protect(OpenApi(described), openai), methods=["GET"]),
        ],
        redirect_slashes=False,
        lifespan=lifespan,
    )
    # The last dialect answers for paths that are nobody's.
    return Edge(router, [gel, velesio, botserver, openai], Cors(settings.api))

"""The routes of the dialect."""

from collections.abc import Iterator, Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.clients import Clients
from gateway.dialects.ollama.embedding_routes import Embed, Embeddings
from gateway.dialects.ollama.envelope import BARE, PREFIX, OllamaDialect
from gateway.dialects.ollama.model_routes import Processes, Show, Tags, Unmanaged, Version
from gateway.dialects.ollama.text_routes import Chat, Generate
from gateway.guard import Guard
from gateway.settings import Settings


def routes(
    settings: Settings, clients: Clients, guard: Guard, dialect: OllamaDialect
) -> Sequence[BaseRoute]:
    """The routes of the dialect, a few of which are known without its prefix, too."""
    found: list[BaseRoute] = []
    for path, endpoint, methods in _endpoints(settings, clients):
        guarded = guard.protect(endpoint, dialect)
        found.append(Route(PREFIX + path, guarded, methods=methods))
        if path in BARE:
            found.append(Route(path, guarded, methods=methods))
    return found


def _endpoints(settings: Settings, clients: Clients) -> Iterator[tuple[str, ASGIApp, list[str]]]:
    yield "/chat", Chat(settings, clients), ["POST"]
    yield "/generate", Generate(settings, clients), ["POST"]
    yield "/embed", Embed(settings, clients), ["POST"]
    yield "/embeddings", Embeddings(settings, clients), ["POST"]
    yield "/tags", Tags(clients), ["GET"]
    yield "/ps", Processes(clients), ["GET"]
    yield "/show", Show(settings, clients), ["POST"]
    yield "/version", Version(), ["GET"]
    for path in ("/pull", "/push", "/create", "/copy"):
        yield path, Unmanaged(), ["POST"]
    yield "/delete", Unmanaged(), ["DELETE"]
    yield "/blobs/{digest}", Unmanaged(), ["HEAD", "POST"]

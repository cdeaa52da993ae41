"""The routes at the root, all of them for known callers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.clients import Clients
from gateway.default_models import DefaultModels
from gateway.dialects.velesio.completion_routes import Completion, LlamaCompletion
from gateway.dialects.velesio.embedding_routes import Embeddings
from gateway.dialects.velesio.envelope import VelesioDialect
from gateway.dialects.velesio.keys import Answerer
from gateway.dialects.velesio.status_routes import Banner, ModelLists, QueueStatus
from gateway.dialects.velesio.text_routes import (
    Detokenize,
    Models,
    Props,
    Slots,
    Template,
    Tokenize,
)
from gateway.generations import Generations
from gateway.guard import Guard
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class OpenAIForms:
    """Endpoints whose requests and answers are in OpenAI's form."""

    chat: ASGIApp
    prompt: ASGIApp
    """Renders a conversation with the model's template."""
    complete: Answerer
    embed: Answerer


def routes(
    settings: Settings,
    clients: Clients,
    guard: Guard,
    dialect: VelesioDialect,
    forms: OpenAIForms,
) -> Sequence[BaseRoute]:
    """The routes of the dialect, without those of the WebUI."""
    endpoints = list(_endpoints(settings, clients, forms))
    banner = Banner(sorted({"/health", *(path for path, _, _ in endpoints)}))
    return [
        Route(path, guard.protect(endpoint, dialect), methods=methods)
        for path, endpoint, methods in [*endpoints, ("/", banner, ["GET"])]
    ]


def _endpoints(
    settings: Settings, clients: Clients, forms: OpenAIForms
) -> Iterator[tuple[str, ASGIApp, list[str]]]:
    defaults = DefaultModels(clients)
    generations = Generations(settings, clients)
    llama = LlamaCompletion(settings, clients, generations, defaults.text)
    embeddings = Embeddings(settings, clients, defaults.embedding, forms.embed)
    models = Models(settings, clients, defaults.text)
    yield "/completion", Completion(settings, llama, forms.complete), ["POST"]
    yield "/chat/completions", forms.chat, ["POST"]
    yield "/apply-template", forms.prompt, ["POST"]
    yield "/template", Template(models), ["GET", "POST"]
    yield "/tokenize", Tokenize(models), ["POST"]
    yield "/detokenize", Detokenize(models), ["POST"]
    yield "/props", Props(models), ["GET", "POST"]
    yield "/slots", Slots(settings), ["POST"]
    yield "/embedding", embeddings, ["POST"]
    yield "/embeddings", embeddings, ["POST"]
    yield "/models", ModelLists(clients), ["GET"]
    yield "/queue/status", QueueStatus(clients), ["GET"]

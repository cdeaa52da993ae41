"""The routes of the dialect."""

from collections.abc import Iterator, Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.clients import Clients
from gateway.dialects.open_inference.elsewhere import ELSEWHERE, Elsewhere
from gateway.dialects.open_inference.envelope import PREFIX, OpenInferenceDialect
from gateway.dialects.open_inference.model_routes import Infer, ModelMetadata, ModelReady
from gateway.dialects.open_inference.server_routes import Live, Ready, ServerMetadata
from gateway.guard import Guard
from gateway.health import Health
from gateway.settings import Settings

_VERSION = "/models/{model:path}/versions/{version}"
_MODEL = "/models/{model:path}"


def routes(
    settings: Settings,
    clients: Clients,
    guard: Guard,
    dialect: OpenInferenceDialect,
    health: Health,
) -> Sequence[BaseRoute]:
    """The routes of the dialect. Whoever probes needs no credential."""
    found: list[BaseRoute] = [
        Route(f"{PREFIX}/health/live", Live(), methods=["GET"]),
        Route(f"{PREFIX}/health/ready", Ready(health), methods=["GET"]),
    ]
    for path, endpoint, methods in _endpoints(settings, clients):
        found.append(Route(PREFIX + path, guard.protect(endpoint, dialect), methods=methods))
    return found


def _endpoints(settings: Settings, clients: Clients) -> Iterator[tuple[str, ASGIApp, list[str]]]:
    infer = Infer(settings, clients)
    ready, metadata = ModelReady(settings, clients), ModelMetadata(settings, clients)
    yield f"{_VERSION}/infer", infer, ["POST"]
    yield f"{_MODEL}/infer", infer, ["POST"]
    yield f"{_VERSION}/ready", ready, ["GET"]
    yield f"{_MODEL}/ready", ready, ["GET"]
    yield "", ServerMetadata(), ["GET"]
    for methods, paths, why in ELSEWHERE:
        for path in paths:
            yield path, Elsewhere(why), list(methods)
    # The last, since IDs of models may have slashes.
    yield _VERSION, metadata, ["GET"]
    yield _MODEL, metadata, ["GET"]

"""The routes of the dialect, with the roles that they need."""

from collections.abc import Collection, Iterator, Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.api_keys import caller_of
from gateway.clients import Clients
from gateway.dialects.botserver.credentials import (
    ADMINS,
    MODEL_MANAGERS,
    TRAINERS,
    only_for,
)
from gateway.dialects.botserver.envelope import PREFIX, BotserverDialect
from gateway.dialects.botserver.inference_routes import Inference
from gateway.dialects.botserver.model_routes import DeployModel, ModelList, ModelSettings, OneModel
from gateway.dialects.botserver.training_routes import (
    CancelTraining,
    StartTraining,
    TrainingStatus,
)
from gateway.guard import Guard
from gateway.settings import Settings


def routes(
    settings: Settings,
    clients: Clients,
    guard: Guard,
    dialect: BotserverDialect,
    *,
    chat: ASGIApp,
    embeddings: ASGIApp,
) -> Sequence[BaseRoute]:
    """The routes of the dialect. Two endpoints answer in OpenAI's form, whose dialect has them."""
    for_all = {
        "/inference": Inference(settings, clients),
        "/chat/completions": chat,
        "/embeddings": embeddings,
    }
    return [
        *(
            Route(PREFIX + path, guard.protect(endpoint, dialect, caller_of), methods=["POST"])
            for path, endpoint in for_all.items()
        ),
        *(
            Route(
                PREFIX + path,
                guard.protect(only_for(roles, endpoint), dialect, caller_of),
                methods=methods,
            )
            for path, endpoint, methods, roles in _endpoints(settings, clients)
        ),
    ]


def _endpoints(
    settings: Settings, clients: Clients
) -> Iterator[tuple[str, ASGIApp, list[str], Collection[str]]]:
    yield "/training/start", StartTraining(settings, clients), ["POST"], TRAINERS
    yield "/training/{job_id}/status", TrainingStatus(clients), ["GET"], TRAINERS
    yield "/training/{job_id}/cancel", CancelTraining(clients), ["POST"], TRAINERS
    yield "/models", ModelList(clients), ["GET"], MODEL_MANAGERS
    # What has a name of its own comes before the IDs, which may hold slashes.
    yield "/models/deploy", DeployModel(settings, clients), ["POST"], MODEL_MANAGERS
    yield "/models/{model_id:path}/config", ModelSettings(settings, clients), ["GET", "PUT"], ADMINS
    yield "/models/{model_id:path}", OneModel(clients), ["GET", "DELETE"], MODEL_MANAGERS

"""What the commands ask of the catalogue."""

from collections.abc import Iterable, Sequence

from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.cli.failures import Failure
from services.cli.paging import listed

UNARY_TIMEOUT_S = 10.0

KINDS = {
    "chat": model_pb2.MODEL_KIND_CHAT,
    "completion": model_pb2.MODEL_KIND_COMPLETION,
    "embedding": model_pb2.MODEL_KIND_EMBEDDING,
    "image": model_pb2.MODEL_KIND_IMAGE,
    "rerank": model_pb2.MODEL_KIND_RERANK,
    "tensor": model_pb2.MODEL_KIND_TENSOR,
}
"""Kinds of models, as they are written on the command line."""

SERVED_BY = {
    model_pb2.MODEL_KIND_CHAT: "inference",
    model_pb2.MODEL_KIND_COMPLETION: "inference",
    model_pb2.MODEL_KIND_TENSOR: "inference",
    model_pb2.MODEL_KIND_EMBEDDING: "embedding",
    model_pb2.MODEL_KIND_RERANK: "embedding",
    model_pb2.MODEL_KIND_IMAGE: "image",
}
"""The service that loads models of a kind."""


def model_id(model: model_pb2.Model) -> str:
    """Returns the ID that requests name the model by."""
    return model.name.removeprefix("models/")


def kind_name(kind: model_pb2.ModelKind.ValueType) -> str:
    """Returns a kind as the command line writes it."""
    return next((name for name, value in KINDS.items() if value == kind), "unknown")


def state_name(model: model_pb2.Model) -> str:
    """Returns where a model stands, in one lower-case word; `loading` once a process loads it."""
    loading = model_pb2.Observation.STATE_LOADING
    if model.state == model_pb2.Model.STATE_DEPLOYING and any(
        observation.state == loading for observation in model.observations
    ):
        return "loading"
    return model_pb2.Model.State.Name(model.state).removeprefix("STATE_").lower()


def progress_of(model: model_pb2.Model) -> float | None:
    """Returns the share of the wanted revision's load that is done; None while nobody loads it."""
    return max(
        (
            observation.progress
            for observation in model.observations
            if observation.state == model_pb2.Observation.STATE_LOADING
            and observation.revision == model.revision.name
        ),
        default=None,
    )


def is_settled(model: model_pb2.Model) -> bool:
    """Tells whether the wanted revision serves, or can't be loaded, or isn't wanted to."""
    if model.state == model_pb2.Model.STATE_READY:
        return not model.serving_revisions or model.revision.name in model.serving_revisions
    return model.state in {model_pb2.Model.STATE_FAILED, model_pb2.Model.STATE_STOPPED}


async def list_models(
    stub: ModelServiceStub, kinds: Sequence[model_pb2.ModelKind.ValueType] = ()
) -> list[model_pb2.Model]:
    """Returns all models of these kinds, page by page."""
    request = model_service_pb2.ListModelsRequest(kinds=kinds)
    models, _ = await listed(
        stub.ListModels, request, lambda page: page.models, timeout_s=UNARY_TIMEOUT_S
    )
    return models


async def get_model(stub: ModelServiceStub, model: str) -> model_pb2.Model:
    """Returns one model, by ID or alias."""
    request = model_service_pb2.GetModelRequest(name=resource_name(model))
    return await stub.GetModel(request, timeout=UNARY_TIMEOUT_S)


def resource_name(model: str) -> str:
    """Returns the resource name of an ID or alias."""
    return "models/" + model.removeprefix("models/")


def pick_chat_model(models: Iterable[model_pb2.Model]) -> str:
    """Returns the model to chat with when none is named: the ready `default`, else the first ready.

    Raises Failure when none is ready.
    """
    chat = [model for model in models if model.kind == model_pb2.MODEL_KIND_CHAT]
    ready = [model for model in chat if model.state == model_pb2.Model.STATE_READY]
    ready.sort(key=lambda model: "default" not in (model_id(model), *model.aliases))
    if ready:
        return model_id(ready[0])
    loading = [model_id(model) for model in chat if not is_settled(model)]
    if loading:
        raise Failure(
            f"No chat model is ready: {', '.join(loading)} still loads.",
            hint="Try again in a moment; `penstock models list` shows where it stands.",
            reason="MODEL_NOT_READY",
        )
    raise Failure(
        "No chat model is ready.",
        hint="`penstock models list` shows what there is; "
        "`penstock models deploy ID --source DIR --kind chat` adds one.",
        reason="MODEL_NOT_READY",
    )

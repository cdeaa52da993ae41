"""Models of the catalogue, as OpenAI lists them."""

from penstock.model.v1 import model_pb2

from gateway.dialects.openai import answer_schema as answers
from gateway.dialects.openai.answers import seconds
from gateway.inferences import KIND_WORDS

_STATUSES = {
    model_pb2.Model.STATE_DEPLOYING: "deploying",
    model_pb2.Model.STATE_READY: "ready",
    model_pb2.Model.STATE_FAILED: "failed",
    model_pb2.Model.STATE_STOPPED: "stopped",
}


def resource_name(model_id: str) -> str:
    """The name of a model in the catalogue."""
    return f"models/{model_id}"


def is_listed(model: model_pb2.Model) -> bool:
    """Tells whether users may expect an answer of a model, now or soon.

    They pick from the list, so models that failed or were stopped are not on it; they can be got
    by ID.
    """
    coming = model.state in (model_pb2.Model.STATE_READY, model_pb2.Model.STATE_DEPLOYING)
    return coming or bool(model.serving_revisions)


def to_model(model: model_pb2.Model) -> answers.ModelObject:
    """Renders a model."""
    capabilities = model.capabilities
    return answers.ModelObject(
        id=model.name.removeprefix("models/"),
        object="model",
        created=seconds(model.create_time),
        owned_by=model.owned_by or "penstock",
        type=KIND_WORDS.get(model.kind, ""),
        status=_STATUSES.get(model.state, ""),
        context_length=capabilities.context_length or model.revision.load_options.context_length,
        dimensions=capabilities.dimensions or model.revision.load_options.dimensions,
    )

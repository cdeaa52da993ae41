"""What the dialect serves, for the OpenAPI document."""

from typing import Any

import msgspec

from gateway.dialects.botserver import inference_schema as inference
from gateway.dialects.botserver import model_schema as models
from gateway.dialects.botserver import training_schema as training
from gateway.dialects.botserver.envelope import PREFIX
from gateway.openapi import Operation


class BotserverError(msgspec.Struct):
    """Body of an error."""

    error: str
    message: str


def _operation(
    method: str,
    path: str,
    summary: str,
    answer: Any,
    body: type[msgspec.Struct] | None = None,
    statuses: tuple[int, ...] = (200,),
) -> Operation:
    return Operation(
        method,
        f"{PREFIX}{path}",
        summary,
        answer,
        body=body,
        statuses=statuses,
        error=BotserverError,
    )


OPERATIONS = (
    _operation(
        "post",
        "/inference",
        "Runs any model once, on what it takes.",
        inference.InferenceAnswer,
        inference.InferenceBody,
    ),
    _operation(
        "post",
        "/training/start",
        "Starts a training job, for botserver's clients.",
        training.TrainingStarted,
        training.TrainingStart,
        (202,),
    ),
    _operation(
        "get", "/training/{job_id}/status", "Tells how a job stands.", training.TrainingStatus
    ),
    _operation(
        "post",
        "/training/{job_id}/cancel",
        "Cancels a job.",
        training.TrainingStatus,
        statuses=(200, 202),
    ),
    _operation(
        "get", "/models", "Lists all models, for botserver's clients.", list[models.ModelItem]
    ),
    _operation(
        "post",
        "/models/deploy",
        "Deploys a model.",
        models.ModelItem,
        models.ModelDeploy,
        (201, 202),
    ),
    _operation("get", "/models/{id}/config", "Gets the settings of a model.", models.ModelConfig),
    _operation(
        "put",
        "/models/{id}/config",
        "Changes settings of a model.",
        models.ModelConfig,
        models.ConfigUpdate,
    ),
    _operation("get", "/models/{id}", "Gets a model.", models.ModelItem),
    _operation("delete", "/models/{id}", "Removes a model.", models.ModelRemoved),
)
"""In the order of the routes."""

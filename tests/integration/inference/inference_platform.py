"""A running InferenceService, and how tests look at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from services.inference.engine import Engine, ModelSpec
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.registry import Registry, ServedModel
from services.rpc.server import Server
from services.serving.models import ModelKind, ModelSettings

USER = (("authorization", "Bearer user-token"),)


@dataclass
class Platform:
    """A running service and what tests look at."""

    inference: Any
    steps: Any
    registry: Registry
    engine: Engine
    server: Server
    channel: grpc.aio.Channel


async def served(id: str, settings: EchoSettings, kind: ModelKind = ModelKind.CHAT) -> ServedModel:
    loaded = await EchoLoader(settings).load(ModelSpec(id, "1", Path()), lambda _: None)
    return ServedModel(id, kind, f"models/{id}/revisions/1", loaded, ModelSettings())


def reason(error: grpc.aio.AioRpcError | status_pb2.Status) -> tuple[str, str]:
    """Reason and field of an error."""
    if isinstance(error, grpc.aio.AioRpcError):
        trailing = dict(error.trailing_metadata() or ())
        error = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in error.details)
    return info.reason, info.metadata.get("param", "")

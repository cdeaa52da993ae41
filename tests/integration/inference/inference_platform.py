"""A running InferenceService, and how tests look at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

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

"""A real InferenceService on echo engines, over a socket."""

from collections.abc import AsyncIterator

import grpc
import pytest
from penstock.inference.internal.v1.step_service_pb2_grpc import StepServiceStub
from penstock.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)

from policy.token_store import TokenSources
from services.inference.engines.echo_engine import EchoSettings
from services.inference.generation import Generator
from services.inference.open_inference_servicer import OpenInferenceServicer, add_open_inference
from services.inference.registry import Registry
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind
from tests.integration.inference.inference_platform import Platform, served


@pytest.fixture
def slow_reader_timeout_s() -> float:
    """Tests of slow readers override it by a parameter."""
    return 5.0


@pytest.fixture
async def platform(slow_reader_timeout_s: float) -> AsyncIterator[Platform]:
    """Serves `echo`, `slow` (5 ms a step) and `completer`; knows others that it does not serve."""
    registry = Registry()
    models = [
        await served("echo", EchoSettings(max_batch_size=4, queue_limit=4)),
        await served("slow", EchoSettings(max_batch_size=2, queue_limit=0, step_interval_s=0.005)),
        await served("completer", EchoSettings(), ModelKind.COMPLETION),
    ]
    for model in models:
        registry.put(model)
    registry.know(
        [
            Known("echo", ModelKind.CHAT, ("org/alias",)),
            Known("slow", ModelKind.CHAT, ("crawl",)),
            Known("completer", ModelKind.COMPLETION),
            Known("loading", ModelKind.CHAT),
            Known("broken", ModelKind.CHAT, failed=True),
            Known("vectors", ModelKind.EMBEDDING),
        ]
    )
    generator = Generator(registry, slow_reader_timeout_s=slow_reader_timeout_s)
    authenticator = CallAuthenticator(TokenSources(api_tokens=("user-token", "other-token")))
    server = Server(
        ServerSettings(),
        [
            Registration(
                add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
            ),
            Registration(
                add_step_service,
                StepServicer(generator, authenticator, slow_reader_timeout_s=slow_reader_timeout_s),
            ),
            Registration(add_open_inference, OpenInferenceServicer(registry)),
        ],
        authenticator=authenticator,
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Platform(
            InferenceServiceStub(channel),
            StepServiceStub(channel),
            registry,
            models[0].loaded.engine,
            server,
            channel,
        )
    await server.stop(0)
    for model in models:
        await model.loaded.engine.close()

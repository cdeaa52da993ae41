"""The product's own inference service, paced: its chassis, servicers and domain over EchoEngine.

python -m benchmarks.edge.echo_service
"""

from pathlib import Path

import uvloop
from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from benchmarks.edge.events import MODEL
from benchmarks.edge.pacing import TOKENS_PER_SECOND
from benchmarks.edge.requests import ENDLESS, KEY
from benchmarks.processes import raise_file_limit
from policy.token_store import TokenSources
from services.inference.engine import ModelSpec
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry, ServedModel
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, ServerSettings, serve
from services.serving.models import Known, ModelKind, ModelSettings

_SETTINGS = EchoSettings(
    max_batch_size=2048,
    queue_limit=2048,
    context_length=2 * ENDLESS,
    step_interval_s=1 / TOKENS_PER_SECOND,
)


async def main() -> None:
    """Serves until SIGTERM."""
    raise_file_limit()
    loaded = await EchoLoader(_SETTINGS).load(ModelSpec(MODEL, "1", Path()), lambda _: None)
    registry = Registry()
    registry.put(
        ServedModel(MODEL, ModelKind.CHAT, f"models/{MODEL}/revisions/1", loaded, ModelSettings())
    )
    registry.know([Known(MODEL, ModelKind.CHAT)])
    generator = Generator(registry)
    authenticator = CallAuthenticator(TokenSources(api_tokens=(KEY,)))
    try:
        await serve(
            "inference",
            ServerSettings(grace_s=0.0),
            [
                Registration(
                    add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
                ),
                Registration(add_step_service, StepServicer(generator, authenticator)),
            ],
            authenticator=authenticator,
        )
    finally:
        await loaded.engine.close()


if __name__ == "__main__":
    uvloop.run(main())

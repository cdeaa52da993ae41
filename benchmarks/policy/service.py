"""The product's own inference service on its echo engine, with as much policy as its settings say.

python -m benchmarks.policy.service --config FILE
"""

import argparse
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop
from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from benchmarks.edge.events import MODEL
from policy.fed_keys import FedKeys
from services.inference.engine import ModelSpec
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.generation import Generator
from services.inference.registry import Registry, ServedModel
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.rpc.limits import WorkLimits
from services.rpc.metering import Metering, open_journal
from services.rpc.process import authenticator_of, limited
from services.rpc.server import Registration, ServerSettings, serve
from services.serving.models import Known, ModelKind, ModelSettings
from services.settings import Settings, load

_ENGINE = EchoSettings(max_batch_size=64, queue_limit=512)


async def main(settings: Settings) -> None:
    """Serves until SIGTERM. Without a service token nothing is limited or written down."""
    loaded = await EchoLoader(_ENGINE).load(ModelSpec(MODEL, "1", Path()), lambda _: None)
    registry = Registry()
    registry.put(
        ServedModel(MODEL, ModelKind.CHAT, f"models/{MODEL}/revisions/1", loaded, ModelSettings())
    )
    registry.know([Known(MODEL, ModelKind.CHAT)])
    # There is no ModelService here to follow.
    authenticator = authenticator_of(settings, FedKeys())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(loaded.engine.close)
        calls, meter = None, None
        if settings.auth.service_token:
            limits = await stack.enter_async_context(limited(settings))
            calls = limits.calls
            journal = open_journal(settings, "inference")
            meter = Metering(journal, WorkLimits(limits.counting.tokens()))
        generator = Generator(registry, meter=meter)
        await serve(
            "inference",
            ServerSettings(grace_s=0.0),
            [
                Registration(
                    add_InferenceServiceServicer_to_server, InferenceServicer(generator, registry)
                ),
                Registration(
                    add_step_service, StepServicer(generator, authenticator, limits=calls)
                ),
            ],
            authenticator=authenticator,
            limits=calls,
        )


def _settings() -> Settings:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    return load(parser.parse_args().config)


if __name__ == "__main__":
    uvloop.run(main(_settings()))

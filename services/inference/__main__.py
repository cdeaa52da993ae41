"""Runs InferenceService: `python -m services.inference [--port N] [--config F] [--data-dir D]`."""

from pathlib import Path

from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from services.inference.attached import Adapters
from services.inference.clients import describe
from services.inference.engine import EngineLoader
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.engines.echo_tensors import EchoTensorLoader
from services.inference.generation import Generator
from services.inference.loading import LoadingByKind, load, load_tensors
from services.inference.registry import Registry
from services.inference.response_process import keeping_responses
from services.inference.servicer import InferenceServicer
from services.inference.step_servicer import StepServicer, add_step_service
from services.inference.tensor_engine import TensorEngineLoader
from services.rpc.metered_process import Metered, metered
from services.rpc.process import authenticator_of, run_service
from services.rpc.server import Registration
from services.serving.loading import Loading
from services.serving.process import serve_models
from services.settings import InferenceSettings, Settings


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    async with (
        keeping_responses(settings.services.inference) as responses,
        metered(settings, "inference") as metering,
    ):
        await _serve(settings, responses, metering)


async def _serve(settings: Settings, responses: Registration, metering: Metered) -> None:
    own = settings.services.inference
    registry = Registry()
    slow_s = own.slow_reader_timeout_s
    generator = Generator(registry, slow_reader_timeout_s=slow_s, meter=metering.meter)
    authenticator = authenticator_of(settings)
    calls = metering.limits.calls
    steps = StepServicer(generator, authenticator, slow_reader_timeout_s=slow_s, limits=calls)
    engines = {
        "echo": lambda: _echo(own),
        "torch": lambda: _torch(own),
        "openvino": lambda: _openvino(own, settings.services.data_dir / "openvino"),
    }
    tensor_engines = {"echo": EchoTensorLoader, "openvino": lambda: _openvino_tensors(own)}
    await serve_models(
        "inference",
        settings,
        [
            Registration(
                add_InferenceServiceServicer_to_server,
                InferenceServicer(generator, registry, metering.meter),
            ),
            Registration(add_step_service, steps),
            responses,
        ],
        registry=registry,
        loader=LoadingByKind(
            Loading(engines, own.engine, load),
            Loading(tensor_engines, "echo" if own.engine == "echo" else "openvino", load_tensors),
        ),
        describe=describe,
        attacher=Adapters(own.engine),
        authenticator=authenticator,
        journal=metering.journal,
        limits=metering.limits,
    )


def _echo(settings: InferenceSettings) -> EngineLoader:
    return EchoLoader(
        EchoSettings(
            max_batch_size=settings.max_batch_size,
            queue_limit=settings.queue_limit,
            context_length=settings.max_context,
        )
    )


def _torch(settings: InferenceSettings) -> EngineLoader:
    # torch takes a second to import: only processes that use it do.
    from services.inference.engines.torch_loader import TorchLoader
    from services.inference.engines.torch_settings import TorchSettings

    return TorchLoader(
        TorchSettings(
            max_batch_size=settings.max_batch_size,
            queue_limit=settings.queue_limit,
            max_context=settings.max_context,
            step_tokens=settings.step_tokens,
            speculative_tokens=settings.speculative_tokens,
            kv_cache_bytes=settings.kv_cache_bytes,
            device=settings.device,
            dtype=settings.dtype,
            decoder=settings.decoder,
            max_adapters=settings.max_adapters,
            max_adapter_rank=settings.max_adapter_rank,
        )
    )


def _openvino(settings: InferenceSettings, cache: Path) -> EngineLoader:
    from services.inference.engines.openvino_loader import OpenVinoLoader
    from services.inference.engines.openvino_settings import OpenVinoSettings

    return OpenVinoLoader(
        OpenVinoSettings(
            cache=cache,
            max_batch_size=settings.max_batch_size,
            queue_limit=settings.queue_limit,
            max_context=settings.max_context,
            step_tokens=settings.step_tokens,
            kv_cache_bytes=settings.kv_cache_bytes,
            device=settings.device,
            dtype=settings.dtype,
        )
    )


def _openvino_tensors(settings: InferenceSettings) -> TensorEngineLoader:
    from services.inference.engines.openvino_tensor_loader import OpenVinoTensorLoader

    return OpenVinoTensorLoader(queue_limit=settings.queue_limit)


if __name__ == "__main__":
    run_service("inference", main)

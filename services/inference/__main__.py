"""Runs InferenceService: `python -m services.inference [--port N] [--config F] [--data-dir D]`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from penstock.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server

from services.inference.attached import Adapters
from services.inference.clients import describe
from services.inference.engine import EngineLoader
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.engines.echo_tensors import EchoTensorLoader
from services.inference.engines.triton_tensors import TritonTensorLoader
from services.inference.generation import Generator
from services.inference.loading import LoadingByKind, load, load_tensors
from services.inference.open_inference_servicer import OpenInferenceServicer, add_open_inference
from services.inference.registry import Registry
from services.inference.response_process import keeping_responses
from services.inference.servicer import InferenceServicer, counts
from services.inference.step_servicer import StepServicer, add_step_service
from services.inference.tensor_engine import TensorEngineLoader
from services.rpc.metered_process import Metered, metered
from services.rpc.process import authenticator_of, run_service
from services.rpc.server import Registration
from services.serving.loading import ECHO, TRITON, Loading
from services.serving.process import serve_models
from services.settings import InferenceSettings, Settings
from services.tritonserver.endpoints import Triton


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
    triton = Triton(settings.triton)
    engines: Mapping[str, Callable[[], EngineLoader]] = {
        "echo": lambda: _echo(own),
        "torch": lambda: _torch(own),
        "openvino": lambda: _openvino(own, settings.services.data_dir / "openvino"),
        TRITON: lambda: _triton(own, triton),
    }
    tensor_engines: Mapping[str, Callable[[], TensorEngineLoader]] = {
        ECHO: EchoTensorLoader,
        "openvino": lambda: _openvino_tensors(own),
        TRITON: lambda: TritonTensorLoader(triton, queue_limit=own.queue_limit),
    }
    tensor_engine = own.engine if own.engine in (ECHO, TRITON) else "openvino"
    await serve_models(
        "inference",
        settings,
        [
            Registration(
                add_InferenceServiceServicer_to_server,
                InferenceServicer(generator, registry, metering.meter),
            ),
            Registration(add_step_service, steps),
            Registration(add_open_inference, OpenInferenceServicer(registry, metering.meter)),
            responses,
        ],
        registry=registry,
        loader=LoadingByKind(
            Loading(engines, own.engine, load),
            Loading(tensor_engines, tensor_engine, load_tensors, folderless=(ECHO, TRITON)),
        ),
        describe=describe,
        count=counts,
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
            cuda_graphs=settings.cuda_graphs,
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


def _triton(settings: InferenceSettings, triton: Triton) -> EngineLoader:
    from services.inference.engines.triton_loader import TritonTextLoader
    from services.inference.engines.triton_settings import TritonTextSettings

    return TritonTextLoader(
        triton,
        TritonTextSettings(
            max_batch_size=settings.max_batch_size,
            queue_limit=settings.queue_limit,
            max_context=settings.max_context,
        ),
    )


def _openvino_tensors(settings: InferenceSettings) -> TensorEngineLoader:
    from services.inference.engines.openvino_tensor_loader import OpenVinoTensorLoader

    return OpenVinoTensorLoader(queue_limit=settings.queue_limit)


if __name__ == "__main__":
    run_service("inference", main)

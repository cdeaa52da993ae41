"""Runs EmbeddingService: `python -m services.embedding [--port N] [--config F] [--data-dir D]`."""

import contextlib

from penstock.embedding.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server

from services.embedding.batching import Limits
from services.embedding.clients import describe
from services.embedding.embedding import Embedder
from services.embedding.engine import EncoderLoader
from services.embedding.engines.echo_engine import EchoLoader
from services.embedding.loading import loading
from services.embedding.preparing import Preparer, Threads
from services.embedding.registry import Registry
from services.embedding.requests import Truncation
from services.embedding.reranking import Reranker
from services.embedding.servicer import EmbeddingServicer, counts
from services.errors import FailedPrecondition
from services.rpc.metered_process import metered
from services.rpc.process import run_service
from services.rpc.server import Registration
from services.serving.loading import Loading
from services.serving.process import serve_models
from services.settings import EmbeddingSettings, Settings


async def main(settings: Settings) -> None:
    """Serves until told to stop."""
    own = settings.services.embedding
    registry = Registry()
    truncation = Truncation(own.truncation)
    limits = Limits(own.queue_limit, own.queue_tokens, own.max_batch_tokens)
    async with contextlib.AsyncExitStack() as stack:
        engines = {
            "echo": EchoLoader,
            "torch": lambda: _torch(own),
            "triton": lambda: _triton(settings, stack),
        }
        threads = stack.enter_context(contextlib.closing(Threads()))
        metering = await stack.enter_async_context(metered(settings, "embedding"))
        meter = metering.meter
        preparer = Preparer(threads, own.max_call_tokens)
        servicer = EmbeddingServicer(
            registry,
            Embedder(registry, preparer, truncation=truncation, meter=meter),
            Reranker(registry, preparer, truncation=truncation, meter=meter),
        )
        await serve_models(
            "embedding",
            settings,
            [Registration(add_EmbeddingServiceServicer_to_server, servicer)],
            registry=registry,
            loader=Loading(engines, own.engine, loading(limits)),
            describe=describe,
            count=counts,
            journal=metering.journal,
            limits=metering.limits,
        )


def _torch(settings: EmbeddingSettings) -> EncoderLoader:
    # torch takes a second to import: only processes that use it do.
    from services.embedding.engines.torch_loader import TorchLoader
    from services.embedding.engines.torch_settings import TorchSettings

    given = {"batch_tokens": settings.max_batch_tokens} if settings.max_batch_tokens else {}
    return TorchLoader(
        TorchSettings(
            device=settings.device, dtype=settings.dtype, encoder=settings.encoder, **given
        )
    )


def _triton(settings: Settings, stack: contextlib.AsyncExitStack) -> EncoderLoader:
    try:
        from services.embedding.engines.triton_loader import TritonLoader
        from services.tritonserver.endpoints import Triton
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "The triton engine is not installed: install the extra `triton`, or take another "
            "engine ([services.embedding] engine)."
        ) from error
    triton = Triton(settings.triton)
    stack.push_async_callback(triton.close)
    return TritonLoader(triton, batch_tokens=settings.services.embedding.max_batch_tokens)


if __name__ == "__main__":
    run_service("embedding", main)

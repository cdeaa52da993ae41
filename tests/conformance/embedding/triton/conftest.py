"""Every promise of encoders, kept by models that were exported to a real Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.embedding.engine import Encoder, EncoderSpec
from services.embedding.engines.triton_export import export
from services.embedding.engines.triton_loader import TritonLoader
from services.settings_triton import TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.export.options import read_options
from tests.conformance.embedding.conftest import Contestant
from tests.triton_server import TritonServer

Connect = Callable[..., Awaitable[Encoder]]


@pytest.fixture(scope="session")
def hosting(triton: TritonServer, tiny_bert: Path, tiny_cross: Path) -> TritonServer:
    """A Triton that has a small encoder and a small cross-encoder."""
    models = {"tiny-bert": (tiny_bert, "embedding"), "tiny-cross": (tiny_cross, "rerank")}
    for name, (folder, kind) in models.items():
        options = {"name": name, "dtype": "float32", "weights": "link", "threads": 1}
        export(folder, triton.repository, kind, read_options(options))
    with grpc.insecure_channel(triton.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name in models:
            stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=name))
    return triton


@pytest.fixture
async def connect(hosting: TritonServer) -> AsyncIterator[Connect]:
    """Takes up a model that Triton has; loading one takes seconds, so tests share them."""
    settings = TritonSettings(endpoints=(hosting.address,), manage_models=False)
    triton = Triton(settings)
    loader = TritonLoader(triton)
    made: list[Encoder] = []

    async def connect_one(name: str, folder: Path, *, scores_pairs: bool = False) -> Encoder:
        spec = EncoderSpec(name, "1", folder, scores_pairs=scores_pairs)
        made.append(await loader.load(spec, lambda share: None))
        return made[-1]

    yield connect_one
    for encoder in made:
        await encoder.close()
    await triton.close()


@pytest.fixture
def contestant() -> Contestant:
    class Unused:
        async def load(self, *_: object) -> Encoder:
            raise AssertionError("encoders on Triton come from `connect`")

    return Contestant(Unused())


@pytest.fixture
async def encoder(connect: Connect, tiny_bert: Path) -> Encoder:
    return await connect("tiny-bert", tiny_bert)


@pytest.fixture
async def cross(connect: Connect, tiny_cross: Path) -> Encoder:
    return await connect("tiny-cross", tiny_cross, scores_pairs=True)

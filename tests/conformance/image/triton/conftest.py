"""Every promise of image engines, kept by a pipeline that was exported to a real Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.image.engine import ImageModel, ImageModelSpec
from services.image.engines.triton_export import export
from services.image.engines.triton_loader import TritonLoader
from services.settings_triton import TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.export.options import read_options
from tests.conformance.image.tiny_pipelines import save
from tests.triton_server import TritonServer

NAME = "tiny-sd"


@pytest.fixture(scope="session")
def pipeline(folders: Path) -> Path:
    """The tiny pipeline's folder."""
    return folders / "sd" if (folders / "sd").is_dir() else save("sd", folders)


@pytest.fixture(scope="session")
def hosting(triton: TritonServer, pipeline: Path) -> TritonServer:
    """A Triton that has the tiny pipeline."""
    options = {
        "name": NAME,
        "dtype": "float32",
        "weights": "link",
        "max_batch_size": 2,
        "queue_size": 3,
    }
    export(pipeline, triton.repository, "image", read_options(options))
    with grpc.insecure_channel(triton.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=NAME))
    return triton


@pytest.fixture
def name() -> str:
    return NAME


@pytest.fixture
async def model(hosting: TritonServer) -> AsyncIterator[ImageModel]:
    """Takes up the model that Triton has; loading it takes seconds, so tests share it."""
    triton = Triton(TritonSettings(endpoints=(hosting.address,), manage_models=False))
    spec = ImageModelSpec(NAME, "1", Path("no folder is needed"))
    made = await TritonLoader(triton).load(spec, lambda _share: None)
    yield made
    await made.close()
    await triton.close()

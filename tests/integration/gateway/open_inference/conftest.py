"""An edge before an inference service with a tensor model of each type; all of them echo."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from penstock.inference.v1.inference_service_pb2_grpc import (
    add_InferenceServiceServicer_to_server,
)

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from policy.token_store import TokenSources
from services.inference.engines.echo_engine import EchoSettings
from services.inference.engines.echo_tensors import EchoTensors
from services.inference.generation import Generator
from services.inference.open_inference_servicer import OpenInferenceServicer, add_open_inference
from services.inference.registry import Registry, ServedTensors
from services.inference.servicer import InferenceServicer
from services.inference.tensor_engine import DATATYPES
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration
from services.serving.models import Known, ModelKind
from tests.integration.gateway.conftest import live_edge
from tests.integration.inference.inference_platform import served
from tests.integration.retrieval.service.rag_platform import serving

TOKEN = "sk-test"


async def registry() -> Registry:
    """Serves an echo of each type by its name, `org/texts`, and `talker`, which talks."""
    found = Registry()
    names = {datatype: datatype for datatype in DATATYPES} | {"org/texts": "BYTES"}
    for name, datatype in names.items():
        engine = EchoTensors(datatype)
        found.put(ServedTensors(name, ModelKind.TENSOR, f"models/{name}/revisions/3", engine))
    found.put(await served("talker", EchoSettings()))
    known = [Known(name, ModelKind.TENSOR) for name in (*names, "loading")]
    known += [Known("talker", ModelKind.CHAT), Known("vectors", ModelKind.EMBEDDING)]
    found.know(known)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    authenticator = CallAuthenticator(TokenSources(api_tokens=(TOKEN,)))
    models = await registry()
    generator = Generator(models, slow_reader_timeout_s=5.0)
    registrations = (
        Registration(add_InferenceServiceServicer_to_server, InferenceServicer(generator, models)),
        Registration(add_open_inference, OpenInferenceServicer(models)),
    )
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(authenticator, *registrations))
        settings = Settings(
            api=ApiSettings(),
            api_tokens=(TOKEN,),
            data_dir=tmp_path_factory.mktemp("edge"),
            addresses=dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1") | {"inference": server.address},
            max_body_bytes=5 * 1024 * 1024,
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        yield f"http://{host}:{port}"
        await models.resolve("talker").loaded.engine.close()


@pytest_asyncio.fixture(loop_scope="module")
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        yield http

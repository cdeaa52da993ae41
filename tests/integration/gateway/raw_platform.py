"""An edge before services that serve a model of each kind; none needs weights to speak of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from gateway.settings import ApiSettings, Settings
from tests.conformance import tensor_models
from tests.integration.gateway.conftest import live_edge
from tests.integration.serving_processes import ADMIN, Processes, run_processes, until_ready

CONFIG = """
[services.inference]
engine = "echo"
[services.embedding]
engine = "echo"
[services.image]
engine = "echo"
max_steps = 50

[api.models.talker]
path = "nothing"
aliases = ["org/talker"]
[api.models.writer]
path = "nothing"
type = "completion"
[api.models.vectors]
path = "nothing"
type = "embedding"
[api.models.judge]
path = "nothing"
type = "rerank"
[api.models.painter]
path = "nothing"
type = "image"
[api.models.echo-arrays]
path = "nothing"
type = "tensor"
"""
KINDS = ("talker", "writer", "vectors", "judge", "painter", "echo-arrays")
USER_KEY = "user-key"


@dataclass
class RawPlatform:
    """The edge, and the services behind it."""

    url: str
    processes: Processes
    models: ModelServiceStub

    def client(self, key: str = USER_KEY) -> httpx.AsyncClient:
        """Sends requests with a key."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=90)


@contextlib.asynccontextmanager
async def raw_platform(folder: Path) -> AsyncIterator[RawPlatform]:
    """Serves models of all kinds; `linear` and `pair` compute on OpenVINO."""
    config = f'[api]\napi_key = "{USER_KEY}"\n{CONFIG}'
    async with contextlib.AsyncExitStack() as stack:
        processes = await stack.enter_async_context(
            run_processes(folder, "inference", config, "embedding", "image")
        )
        channel = grpc.aio.insecure_channel(processes.address("model"))
        models = ModelServiceStub(await stack.enter_async_context(channel))
        for name, data in (
            ("linear", tensor_models.linear()),
            ("pair", tensor_models.two_by_two()),
        ):
            await models.DeployModel(
                model_pb.DeployModelRequest(
                    model_id=name,
                    source=str(tensor_models.save(folder / name, data)),
                    kind=model_pb2.MODEL_KIND_TENSOR,
                    load_options=model_pb2.LoadOptions(engine="openvino"),
                ),
                metadata=ADMIN,
            )
        await asyncio.gather(*(until_ready(models, name) for name in (*KINDS, "linear", "pair")))
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {name: processes.address(name) for name in processes.ports}
        settings = Settings(
            data_dir=folder,
            addresses=addresses,
            service_token="service-token",
            api=ApiSettings(api_key=USER_KEY),
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        yield RawPlatform(f"http://{host}:{port}", processes, models)


async def document_schema(http: httpx.AsyncClient, method: str, path: str) -> dict[str, Any]:
    """What the OpenAPI document says of the answer of an operation."""
    document = (await http.get("/openapi.json")).json()
    responses = document["paths"][path][method]["responses"]
    schema = responses["200"]["content"]["application/json"]["schema"]
    return {**schema, "components": document["components"]}

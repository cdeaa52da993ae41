"""Tensor models on a real Triton behind the platform: deployed, asked in each way, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import pytest_asyncio
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from tests.conformance import triton_models
from tests.integration.gateway.conftest import live_edge
from tests.integration.serving_processes import ADMIN, run_processes, settled, until_ready
from tests.triton_server import TritonServer, running_triton

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "user-key"
CONFIG = """
[api]
api_key = "user-key"
[services.inference]
engine = "echo"
[triton]
endpoints = ["ADDRESS"]
[triton.models.shout]
name = "shout-7b"
"""
SHOUT = """
import numpy as np
text = given('text')
yield 'loud', np.array([one.upper() for one in text.reshape(-1)], np.object_).reshape(text.shape)
"""


@dataclass
class Served:
    """The edge, and the services behind it."""

    http: httpx.AsyncClient
    inference: str
    models: ModelServiceStub


@contextlib.asynccontextmanager
async def served_on(triton: TritonServer, folder: Path) -> AsyncIterator[Served]:
    """Deploys `shout`, and `absent`, which Triton does not have."""
    files = triton_models.model(
        SHOUT,
        [("text", "TYPE_STRING", (2,))],
        [("loud", "TYPE_STRING", (2,))],
        "max_batch_size: 8\ndynamic_batching {}\n",
    )
    triton.add("shout-7b", files)
    async with contextlib.AsyncExitStack() as stack:
        processes = await stack.enter_async_context(
            run_processes(folder, "inference", CONFIG.replace("ADDRESS", triton.address))
        )
        channel = grpc.aio.insecure_channel(processes.address("model"))
        models = ModelServiceStub(await stack.enter_async_context(channel))
        for name in ("shout", "absent"):
            await models.DeployModel(
                model_pb.DeployModelRequest(
                    model_id=name,
                    source="triton",
                    kind=model_pb2.MODEL_KIND_TENSOR,
                    load_options=model_pb2.LoadOptions(engine="triton"),
                ),
                metadata=ADMIN,
            )
        await until_ready(models, "shout")
        addresses = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
        addresses |= {name: processes.address(name) for name in processes.ports}
        settings = Settings(
            data_dir=folder,
            addresses=addresses,
            service_token="service-token",
            api=ApiSettings(api_key=KEY),
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        http = httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers={"authorization": f"Bearer {KEY}"}, timeout=60
        )
        yield Served(await stack.enter_async_context(http), processes.address("inference"), models)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    triton: TritonServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    async with served_on(triton, tmp_path_factory.mktemp("on-triton")) as platform:
        yield platform


async def test_over_rest(platform: Served) -> None:
    told = (await platform.http.get("/v2/models/shout")).json()
    assert (told["platform"], told["inputs"]) == (
        "triton",
        [{"name": "text", "datatype": "BYTES", "shape": [-1, 2]}],
    )
    given = {"name": "text", "datatype": "BYTES", "shape": [1, 2], "data": ["ab", "ü"]}
    answer = await platform.http.post("/v2/models/shout/infer", json={"inputs": [given]})
    assert answer.json()["outputs"] == [
        {"name": "loud", "datatype": "BYTES", "shape": [1, 2], "data": ["AB", "ü"]}
    ], "bytes have no letters beyond ASCII"
    many = {**given, "shape": [9, 2], "data": ["x"] * 18}
    answer = await platform.http.post("/v2/models/shout/infer", json={"inputs": [many]})
    assert (answer.status_code, "1 to 8 rows" in answer.json()["error"]) == (400, True)
    predicted = await platform.http.post(
        "/v1/predict", json={"deployment_id": "shout", "input": ["a", "b"]}
    )
    assert predicted.json()["output"] == ["A", "B"]


async def test_over_grpc(platform: Served) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with InferenceServerClient(platform.inference) as client:
        assert await client.is_model_ready("shout", headers=headers)
        given: Any = InferInput("text", [2, 2], "BYTES")
        given.set_data_from_numpy(np.array([["a", "b"], ["c", b"\xff"]], np.object_))
        answer = await client.infer("shout", [given], headers=headers)
        assert answer.as_numpy("loud").tolist() == [[b"A", b"B"], [b"C", b"\xff"]]
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            await client.infer("absent", [given], headers=headers)


async def test_what_triton_has_not_is_told_by_the_catalogue(platform: Served) -> None:
    model = await settled(platform.models, "absent")
    assert model.state == model_pb2.Model.STATE_FAILED
    assert "absent" in model.state_message


async def test_what_is_deleted_is_unloaded(platform: Served, triton: TritonServer) -> None:
    await platform.models.DeleteModel(
        model_pb.DeleteModelRequest(name="models/shout"), metadata=ADMIN
    )
    async with InferenceServerClient(triton.address) as client, asyncio.timeout(60):
        while await client.is_model_ready("shout-7b"):  # noqa: ASYNC110 - Triton tells nobody
            await asyncio.sleep(0.05)
    answer = await platform.http.get("/v2/models/shout/ready")
    assert answer.status_code == 404


@pytest.mark.slow  # it starts a Triton of its own twice, and services of their own
async def test_it_comes_back_when_triton_or_its_model_was_killed(tmp_path: Path) -> None:
    given = {"name": "text", "datatype": "BYTES", "shape": [1, 2], "data": ["a", "b"]}

    async def asked() -> httpx.Response:
        return await platform.http.post("/v2/models/shout/infer", json={"inputs": [given]})

    async def until(status: int) -> httpx.Response:
        async with asyncio.timeout(90):
            while (answer := await asked()).status_code != status:
                assert answer.status_code in (200, 503), answer.text
                await asyncio.sleep(0.05)
            return answer

    with running_triton() as triton:
        async with served_on(triton, tmp_path) as platform:
            assert (await asked()).status_code == 200
            triton.kill()
            assert "try again" in (await until(503)).json()["error"].lower()
            async with asyncio.timeout(90):
                ready = "/v2/models/shout/ready"
                while (await platform.http.get(ready)).status_code != 503:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            triton.start()
            await until(200)
            for pid in triton.stubs():
                os.kill(pid, signal.SIGKILL)
            assert "has died" in (await until(503)).json()["error"]
            await until(200)

"""The two processes of the control loop, as they are run: killed, restarted, redeployed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from tests.integration.reasons import outcome, reason
from tests.integration.serving_processes import ADMIN, Processes, run_processes, until_ready

CONFIG = """
[api.models.first]
path = "{folder}"
aliases = ["default"]

[services.inference]
engine = "echo"
"""


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    async with run_processes(tmp_path, "inference", CONFIG) as processes:
        yield processes


def chat(model: str, text: str = "hello") -> inference_pb.ChatRequest:
    message = message_pb2.Message(role=2, parts=[message_pb2.Part(text=text)])
    return inference_pb.ChatRequest(model=model, messages=[message])


async def test_the_loop_heals_from_anything(processes: Processes) -> None:
    model_channel = grpc.aio.insecure_channel(processes.address("model"))
    inference_channel = grpc.aio.insecure_channel(processes.address("inference"))
    async with model_channel, inference_channel:
        models = ModelServiceStub(model_channel)
        inference = InferenceServiceStub(inference_channel)
        health: Any = health_pb2_grpc.HealthStub(inference_channel)  # pyright: ignore

        async def answers(model: str) -> str:
            answer = await inference.Chat(chat(model), metadata=ADMIN, wait_for_ready=True)
            return answer.choices[0].message.parts[0].text

        model = await until_ready(models, "first")
        assert model.capabilities.tools
        assert model.template_name == "chatml"
        assert model.observations[0].address == processes.address("inference")
        assert await answers("default") == "hello"
        check = health_pb2.HealthCheckRequest(service="models/first")  # pyright: ignore
        assert (await health.Check(check)).status == 1

        # A new revision takes over under load, and no request is lost.
        deploy = model_service_pb2.DeployModelRequest(
            model_id="second",
            source=str(processes.folder),
            kind=model_pb2.MODEL_KIND_CHAT,
            wait=True,
            allow_update=True,
        )
        assert (await models.DeployModel(deploy, metadata=ADMIN)).state == 2
        stop = asyncio.Event()

        async def ask() -> int:
            count = 0
            while not stop.is_set():
                assert await answers("second") == "hello"
                count += 1
            return count

        askers = [asyncio.create_task(ask()) for _ in range(4)]
        for revision in (2, 3):
            deploy.load_options.context_length = 500 + revision
            await models.DeployModel(deploy, metadata=ADMIN)
            await until_ready(models, "second", revision)
        stop.set()
        assert sum(await asyncio.gather(*askers)) > 10
        info = await inference.GetRuntimeInfo(
            inference_pb.GetRuntimeInfoRequest(model="second"), metadata=ADMIN
        )
        assert (info.revision, info.context_length) == ("models/second/revisions/3", 503)

        # Without the model service, what is served stays served.
        await processes.kill("model")
        assert await answers("second") == "hello"
        await processes.start("model")
        await until_ready(models, "second", 3)

        # A broken model fails with a reason, and the others serve.
        deploy.model_id = "broken"
        deploy.load_options.engine = "none-such"
        await models.DeployModel(deploy, metadata=ADMIN)
        get = model_service_pb2.GetModelRequest(name="models/broken")
        broken = await models.GetModel(get, metadata=ADMIN)
        assert broken.state == model_pb2.Model.STATE_FAILED
        assert "none-such" in broken.state_message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answers("broken")
        assert reason(caught.value)[0] == "MODEL_NOT_READY"

        # A killed inference process comes back with everything.
        await processes.kill("inference")
        await processes.start("inference")
        async with asyncio.timeout(20):
            while (word := await outcome(answers("second"))) != "hello":
                assert word in {"MODEL_NOT_READY", "UNAVAILABLE"}
                await asyncio.sleep(0.05)
        assert await answers("default") == "hello"

        # What is deleted is gone.
        delete = model_service_pb2.DeleteModelRequest(name="models/second")
        await models.DeleteModel(delete, metadata=ADMIN)
        async with asyncio.timeout(60):
            while (word := await outcome(answers("second"))) != "MODEL_NOT_FOUND":
                assert word == "hello"
                await asyncio.sleep(0.02)
        assert await processes.kill("inference", signal.SIGTERM) == 0
        assert await processes.kill("model", signal.SIGTERM) == 0

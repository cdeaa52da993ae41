"""ModelService as a process of its own: start, kill, restart, drain."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

REPOSITORY = Path(__file__).parents[3]
ADMIN = (("authorization", "Bearer admin-key"),)


class Process:
    """A running `python -m services.model`."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.channel = grpc.aio.insecure_channel(address)
        self.stub = ModelServiceStub(self.channel)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)

    async def models(self) -> dict[str, pb.Model]:
        request = service_pb.ListModelsRequest(page_size=1000)
        page = await self.stub.ListModels(request, metadata=ADMIN)
        return {model.name.removeprefix("models/"): model for model in page.models}


@pytest.fixture
def start(tmp_path, new_database_url):
    """Starts the process with these `[api.models.*]`."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "admin-key").write_text("admin-key")
    config = tmp_path / "penstock.toml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
    environment["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'protos/gen/python'}"

    @asynccontextmanager
    async def run(models: str = ""):
        config.write_text(
            f'[services.model]\ndatabase_url = "{new_database_url}"\n'
            f'model_roots = ["{tmp_path}"]\n'
            f'[api.models.seeded]\npath = "{tmp_path}"\n{models}'
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.model",
            *("--port", "0", "--config", str(config), "--data-dir", str(data)),
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        errors = asyncio.create_task(process.stderr.read())
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if not line:
            await process.wait()
            raise RuntimeError((await errors).decode())
        told = json.loads(line)
        assert told["service"] == "model"
        running = Process(process, told["address"])
        try:
            yield running
        finally:
            await running.channel.close()
            if process.returncode is None:
                process.kill()
            await process.wait()
            await errors

    return run


async def test_a_kill_in_the_middle_of_writes_loses_nothing(start, tmp_path):
    deployed, asked, sequence = {}, set(), 0

    async def write(stub, writer: int) -> None:
        for number in range(10_000):
            model_id = f"w{writer}-{number}"
            asked.add(model_id)
            request = service_pb.DeployModelRequest(
                model_id=model_id,
                source=str(tmp_path),
                kind=pb.MODEL_KIND_CHAT,
                aliases=[f"{model_id}-alias"],
            )
            deployed[model_id] = await stub.DeployModel(request, metadata=ADMIN)

    async with start() as process:
        watch = process.stub.WatchModels(service_pb.WatchModelsRequest(), metadata=ADMIN)
        sequence = (await watch.read()).sequence
        writers = [asyncio.create_task(write(process.stub, writer)) for writer in range(4)]
        while len(deployed) < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await process.end(signal.SIGKILL)
        results = await asyncio.gather(*writers, return_exceptions=True)
        assert {type(result) for result in results} == {grpc.aio.AioRpcError}
        assert {result.code() for result in results} == {grpc.StatusCode.UNAVAILABLE}

    async with start() as process:
        models = await process.models()
        assert models.pop("seeded").state == pb.Model.STATE_DEPLOYING
        assert set(deployed) <= set(models) <= asked
        for model_id, model in deployed.items():
            assert models[model_id] == model
        # Half-made models would lack their alias or their line in the change log.
        for model_id, model in models.items():
            assert list(model.aliases) == [f"{model_id}-alias"]
        request = service_pb.WatchModelsRequest(resume_sequence=sequence)
        watch = process.stub.WatchModels(request, metadata=ADMIN)
        told = {(await watch.read()).changed.name.removeprefix("models/") for _ in models}
        assert told == set(models)


async def test_models_of_the_file_over_restarts(start):
    two = '[api.models.two]\npath = "/none/such"\ntype = "embedding"\naliases = ["second"]\n'
    async with start(two) as process:
        models = await process.models()
        assert {m: v.state for m, v in models.items()} == {
            "seeded": pb.Model.STATE_DEPLOYING,
            "two": pb.Model.STATE_DEPLOYING,
        }
        assert not models["two"].deployed_by_api
        request = service_pb.DeployModelRequest(
            model_id="three", source="/usr", kind=pb.MODEL_KIND_CHAT
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await process.stub.DeployModel(request, metadata=ADMIN)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, "outside of model_roots"
        assert await process.end(signal.SIGTERM) == 0
    async with start() as process:
        assert (await process.models())["two"].state == pb.Model.STATE_STOPPED
        watch = process.stub.WatchModels(service_pb.WatchModelsRequest(), metadata=ADMIN)
        event = await watch.read()
        assert [model.name for model in event.snapshot.models] == ["models/seeded"]
        assert await process.end(signal.SIGTERM) == 0, "a watch must not hold up the drain"


async def test_a_file_that_makes_no_sense_is_said_in_a_line(start):
    with pytest.raises(RuntimeError) as caught:
        async with start('[api.models.deploy]\npath = "/x"\n'):
            pass
    assert str(caught.value).strip().endswith("'deploy' is reserved. Choose another ID.")
    assert "Traceback" not in str(caught.value)

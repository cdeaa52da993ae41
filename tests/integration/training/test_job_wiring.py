"""TrainingService and ModelService as they are run: a job from its file to a model that is wanted,
and what becomes of a worker when the service is stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from penstock.training.v1 import job_pb2
from penstock.training.v1 import training_service_pb2 as pb
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.training.folder import job_folder, model_link
from services.training.journal import is_locked
from services.training.trainers.local import LocalTrainer
from tests.conformance.tiny_models import save_model
from tests.integration.reasons import reason
from tests.integration.serving_processes import ADMIN, Processes, run_processes
from tests.integration.training.file_platform import upload

pytestmark = pytest.mark.timeout(600)  # workers import a lot
CONFIG = """
[api.models.tiny]
path = "{folder}/tiny"
aliases = ["default"]

[api.models.encoder]
path = "{folder}/tiny"
type = "embedding"

[training]
organisation = "acme"
device = "cpu"
worker_threads = 1

[training.datasets.hours]
path = "hours.jsonl"

[training.datasets.nothing]
path = "nothing.jsonl"
"""
Job = job_pb2.Job
LINES = "".join(
    json.dumps(
        {
            "messages": [
                {"role": "user", "content": f"When is shop {number} open?"},
                {"role": "assistant", "content": f"From {number} to 18."},
            ]
        }
    )
    + "\n"
    for number in range(8)
)


@dataclass(frozen=True)
class Stack:
    """Both services, and what people say to them."""

    processes: Processes
    root: Path
    jobs: TrainingServiceStub
    models: ModelServiceStub
    health: Any

    async def start(self, **fields: Any) -> job_pb2.Job:
        given = {"base_model": "default", "training_dataset": "hours"} | fields
        request = pb.StartJobRequest(job=Job(**given))
        return await self.jobs.StartJob(request, metadata=ADMIN, wait_for_ready=True)

    async def until(self, job: job_pb2.Job, done: Callable[[job_pb2.Job], bool]) -> job_pb2.Job:
        """Waits for a job, as long as it takes; one that ends otherwise fails the test."""
        while True:
            request = pb.GetJobRequest(name=job.name)
            job = await self.jobs.GetJob(request, metadata=ADMIN, wait_for_ready=True)
            if done(job):
                return job
            assert job.state not in (Job.STATE_FAILED, Job.STATE_CANCELLED), job
            await asyncio.sleep(0.2)

    async def serves(self) -> bool:
        request = health_pb2.HealthCheckRequest(  # pyright: ignore
            service="penstock.training.v1.TrainingService"
        )
        return (await self.health.Check(request)).status == 1


@asynccontextmanager
async def no_workers_left(root: Path) -> AsyncIterator[None]:
    """A killed service leaves its workers alone; a test that fails mustn't."""
    try:
        yield
    finally:
        for folder in folders(root):
            await LocalTrainer().kill(folder.name, folder)


def folders(root: Path) -> list[Path]:
    return list(root.glob("jobs/*"))


@asynccontextmanager
async def running(folder: Path, config: str = CONFIG) -> AsyncIterator[Stack]:
    async with (
        no_workers_left(folder / "training"),
        run_processes(folder, "training", config) as processes,
        grpc.aio.insecure_channel(processes.address("training")) as training,
        grpc.aio.insecure_channel(processes.address("model")) as model,
    ):
        yield Stack(
            processes,
            folder / "training",
            TrainingServiceStub(training),
            ModelServiceStub(model),
            health_pb2_grpc.HealthStub(training),  # pyright: ignore
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny")
    (tmp_path / "hours.jsonl").write_text(LINES)
    return tmp_path


async def test_a_job_goes_on_after_a_stop_and_makes_a_model_of_its_owner(folder: Path) -> None:
    async with running(folder) as stack:
        file = await stack.jobs.UploadFile(upload([LINES.encode()]), metadata=ADMIN)
        job = await stack.start(
            training_dataset="",
            training_file=file.name,
            hyperparameters=job_pb2.Hyperparameters(epoch_count=25, batch_size=1),
            checkpoint_interval_steps=50,
            suffix="the hours",
        )
        assert job.base_model == "tiny"
        # Its worker ends with the service, and the next service has it gone on with.
        job = await stack.until(job, lambda job: job.step > 0)
        lock = job_folder(stack.root, job.name.removeprefix("trainingJobs/")).lock
        assert is_locked(lock)
        assert await stack.processes.kill("training", signal.SIGTERM) == 0
        while is_locked(lock):  # noqa: ASYNC110 - it writes a checkpoint first
            await asyncio.sleep(0.1)
        await stack.processes.start("training")
        job = await stack.until(job, lambda job: job.state == Job.STATE_SUCCEEDED)
        assert job.fine_tuned_model.startswith("ft:tiny:acme:the-hours:")
        assert (job.step_count, job.step, job.restart_count) == (200, 200, 0)
        assert len(job.result_files) == 1
        name = f"models/{job.fine_tuned_model}"
        get = model_service_pb.GetModelRequest(name=name)
        model = await stack.models.GetModel(get, metadata=ADMIN)
        assert (model.base_model, model.owned_by) == ("tiny", job.owner)
        assert model.kind == model_pb2.MODEL_KIND_CHAT
        result = model_link(stack.root, job.fine_tuned_model).resolve()
        assert model.revision.source == str(result)
        assert (result / "adapter_model.safetensors").is_file()
        # What people delete stays deleted, whoever starts again.
        delete = model_service_pb.DeleteModelRequest(name=name)
        await stack.models.DeleteModel(delete, metadata=ADMIN)
        assert await stack.processes.kill("training") == -signal.SIGKILL
        await stack.processes.start("training")
        await stack.until(job, lambda job: job.state == Job.STATE_SUCCEEDED)
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stack.models.GetModel(get, metadata=ADMIN)
        assert reason(missing.value)[0] == "MODEL_NOT_FOUND"


async def test_bases_and_datasets_that_there_are_not(folder: Path) -> None:
    async with running(folder) as stack:
        for fields, why, param in (
            ({"base_model": "none"}, "MODEL_NOT_FOUND", "job.base_model"),
            ({"base_model": "encoder"}, "INVALID_ARGUMENT", "job.base_model"),
            ({"training_dataset": "none"}, "NOT_FOUND", "job.training_dataset"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stack.start(**fields)
            assert reason(refused.value) == (why, param)
        job = await stack.start(training_dataset="nothing")
        job = await stack.until(job, lambda job: job.state == Job.STATE_FAILED)
        assert (job.error.code, job.error.param) == ("invalid_training_file", "training_dataset")
        assert str(folder) not in job.error.message
        assert await stack.serves(), "a job that failed is no fault of the service"
        # Without the catalogue nothing can be started, and that is said.
        await stack.processes.kill("model")
        with pytest.raises(grpc.aio.AioRpcError) as away:
            await stack.start()
        assert reason(away.value)[0] == "UNAVAILABLE"
        assert await stack.serves()


def test_a_folder_that_can_not_be_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "penstock.toml").write_text('[training]\nfolder = "file/training"\n')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "services.training", "--port", "0"),
            *("--config", str(tmp_path / "penstock.toml"), "--data-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert "[training] folder" in done.stderr
    assert "Traceback" not in done.stderr

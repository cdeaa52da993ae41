"""Jobs that train in a real Ray: with the worker and the supervisor of the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.training.folder import Ended, JobFolder, Metrics, Saved
from services.training.job_records import ENDED, Job, JobState
from services.training.journal import holder
from services.training.preparing import Preparer, WorkerPlan
from services.training.publishing import Publisher
from services.training.supervisor import Supervisor
from services.training.supervisor_running import Patience, RunningJobs
from services.training.trainer import WorkerState
from services.training.trainers.ray_entrypoint import WorkerCommand
from services.training.trainers.ray_jobs import RayCluster
from services.training.trainers.ray_trainer import RayPatience, RayShare, RayTrainer
from tests.conformance.tiny_models import save_model
from tests.conformance.training.worker_jobs import finish, of, result_bytes, write_job
from tests.integration.training.supervised import ME, Workshop, workshop
from tests.ray.conftest import CPUS
from tests.ray.waiting import WAIT_S, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@contextlib.asynccontextmanager
async def _trainer(
    address: str, num_cpus: float = 1, processes: int = 1
) -> AsyncIterator[RayTrainer]:
    trainer = RayTrainer(
        RayCluster(address),
        RayShare(num_cpus=num_cpus),
        WorkerCommand(sys.executable, processes=processes),
        RayPatience(stop_s=120.0),
    )
    try:
        yield trainer
    finally:
        await trainer.close()


async def _until_gone(trainer: RayTrainer, job_id: str, folder: JobFolder) -> None:
    async def gone() -> bool:
        return (await trainer.look(job_id, folder.path)).state is WorkerState.GONE

    await until(gone)


async def _kill_after(folder: JobFolder, saved: int) -> None:
    """Kills the worker when it has written so many checkpoints."""
    async with asyncio.timeout(WAIT_S):
        while len(of(folder, Saved)) < saved:  # noqa: ASYNC110 - a journal sets no events
            await asyncio.sleep(0.01)
    found = holder(folder.lock)
    assert found is not None
    assert found.is_running()
    os.kill(found.pid, signal.SIGKILL)


async def test_a_worker_that_is_killed_in_ray_goes_on_where_it_was(
    tmp_path: Path, ray_address: str
) -> None:
    base = save_model(tmp_path / "base")
    plan = {"checkpoint_interval_steps": 1, "epoch_count": 3}
    calm = write_job(tmp_path / "calm", base, **plan)
    folder = write_job(tmp_path / "ray", base, **plan)

    async with _trainer(ray_address) as trainer:
        await trainer.start("ftjob-killed", folder.path, 1)
        await _kill_after(folder, saved=2)
        await _until_gone(trainer, "ftjob-killed", folder)
        assert of(folder, Ended) == []
        await trainer.start("ftjob-killed", folder.path, 2)
        await _until_gone(trainer, "ftjob-killed", folder)

    expected = await asyncio.to_thread(finish, calm)
    [ended] = of(folder, Ended)
    assert (ended.outcome, ended.attempt) == ("succeeded", 2)
    assert (ended.step, ended.trained_token_count) == (expected.step, expected.trained_token_count)
    assert result_bytes(folder) == result_bytes(calm)


async def test_two_processes_learn_what_one_does(tmp_path: Path, ray_address: str) -> None:
    base = save_model(tmp_path / "base")
    one, two = write_job(tmp_path / "one", base), write_job(tmp_path / "two", base)

    async with _trainer(ray_address, num_cpus=2, processes=2) as trainer:
        await trainer.start("ftjob-two", two.path, 1)
        await _until_gone(trainer, "ftjob-two", two)

    expected = await asyncio.to_thread(finish, one)
    log = two.log.read_text()[-4000:]
    assert len(of(two, Ended)) == 1, log
    [ended] = of(two, Ended)
    assert ended.outcome == "succeeded", log
    assert (ended.step, ended.trained_token_count) == (expected.step, expected.trained_token_count)
    assert [record.step for record in of(two, Metrics)] == [
        record.step for record in of(one, Metrics)
    ]
    for ours, theirs in zip(of(two, Metrics), of(one, Metrics), strict=True):
        assert ours.metrics["train_loss"] == pytest.approx(theirs.metrics["train_loss"], rel=1e-3)


@contextlib.asynccontextmanager
async def _supervised(made: Workshop, trainer: RayTrainer) -> AsyncIterator[None]:
    publisher = Publisher(made.root, made.results, made.catalogue)
    running = RunningJobs(
        made.root, made.store.jobs, trainer, publisher, Patience(restart_pause_s=0.01)
    )
    plan = WorkerPlan(device="cpu", threads=1)
    preparer = Preparer(made.root, made.files, made.catalogue, made.datasets, plan)
    supervisor = Supervisor(made.root, made.store.jobs, preparer, running, interval_s=0.2)
    task = asyncio.create_task(supervisor.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _until_ended(made: Workshop, job: Job) -> Job:
    async def ended() -> bool:
        return (await made.get(job)).state in ENDED

    await until(ended)
    return await made.get(job)


async def test_the_service_runs_a_job_in_ray_and_replaces_a_dead_worker(
    tmp_path: Path, ray_address: str
) -> None:
    async with workshop(tmp_path) as made, _trainer(ray_address) as trainer:
        made.catalogue.weights = save_model(tmp_path / "base")
        async with _supervised(made, trainer):
            job = await made.start(checkpoint_interval_steps=1)
            await _kill_after(made.folder(job), saved=1)
            job = await _until_ended(made, job)
        assert job.state is JobState.SUCCEEDED, await made.messages(job)
        assert job.restart_count == 1
        assert job.step == job.step_count
        assert [model for model, _, _ in made.catalogue.deployed] == [job.model_id]


async def test_a_job_that_waits_for_room_in_ray_can_be_cancelled(
    tmp_path: Path, ray_address: str
) -> None:
    async with workshop(tmp_path) as made, _trainer(ray_address, num_cpus=CPUS + 1) as trainer:
        made.catalogue.weights = save_model(tmp_path / "base")
        async with _supervised(made, trainer):
            job = await made.start()

            async def waits() -> bool:
                worker = await trainer.look(job.id, made.folder(job).path)
                return worker.state is WorkerState.STARTING

            await until(waits)
            await made.jobs.cancel(job.id, ME)
            job = await _until_ended(made, job)
        assert job.state is JobState.CANCELLED
        assert not made.folder(job).journal.exists()

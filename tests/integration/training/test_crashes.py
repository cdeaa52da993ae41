"""TrainingService, ModelService and workers as they are run, killed at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from pathlib import Path

import pytest
from penstock.model.v1 import model_service_pb2 as model_service_pb
from penstock.training.v1 import job_pb2

from services.training.folder import JobFolder, Progress, job_folder, model_link
from services.training.job_records import MetricsReport
from services.training.journal import holder, read_records
from services.training.records import Page
from services.training.stores import open_store
from tests.conformance.tiny_models import save_model
from tests.integration.serving_processes import ADMIN
from tests.integration.training.test_job_wiring import LINES, Stack, running

EPOCHS, BATCH = 15, 2
STEPS = EPOCHS * LINES.count("\n") // BATCH
KINDS = ("worker", "service", "both")
Job = job_pb2.Job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny")
    (tmp_path / "hours.jsonl").write_text(LINES)
    return tmp_path


class Training:
    """One job among crashes."""

    def __init__(self, stack: Stack, job: job_pb2.Job) -> None:
        self.stack = stack
        self.job = job
        self.id = job.name.removeprefix("trainingJobs/")
        self.folder: JobFolder = job_folder(stack.root, self.id)

    @classmethod
    async def begun(cls, stack: Stack) -> Training:
        hyperparameters = job_pb2.Hyperparameters(epoch_count=EPOCHS, batch_size=BATCH)
        job = await stack.start(
            hyperparameters=hyperparameters, checkpoint_interval_steps=5, seed=11
        )
        return cls(stack, job)

    async def until_step(self, step: int) -> None:
        """Waits for the worker to have come so far, by its own account."""
        offset = 0
        while True:
            records, offset = read_records(self.folder.journal, offset)
            if any(isinstance(one, Progress) and one.step >= step for one in records):
                return
            await asyncio.sleep(0.01)

    async def kill(self, kind: str) -> None:
        """Kills at once, and has the service start again."""
        worker = holder(self.folder.lock)
        if kind != "worker":
            self.stack.processes.running["training"].send_signal(signal.SIGKILL)
        if kind != "service" and worker is not None and worker.is_running():
            os.kill(worker.pid, signal.SIGKILL)
        if kind != "worker":
            await self.stack.processes.kill("training")
            await self.stack.processes.start("training")

    async def succeeded(self) -> tuple[int, str]:
        """Sees that it ends as it should. Returns the tokens trained and the hash of the result."""
        done = lambda job: job.state == Job.STATE_SUCCEEDED  # noqa: E731
        job = await self.stack.until(self.job, done)
        assert (job.step, job.step_count, job.progress) == (STEPS, STEPS, 1.0)
        assert len(job.result_files) == 1
        request = model_service_pb.ListModelsRequest(page_size=1000)
        listed = await self.stack.models.ListModels(request, metadata=ADMIN)
        name = f"models/{job.fine_tuned_model}"
        assert [model.name for model in listed.models].count(name) == 1
        await self.check_history()
        result = model_link(self.stack.root, job.fine_tuned_model) / "adapter_model.safetensors"
        return job.trained_token_count, hashlib.sha256(result.read_bytes()).hexdigest()

    async def check_history(self) -> None:
        store = await open_store(f"sqlite:///{self.stack.processes.folder / 'training.db'}")
        try:
            page = Page(10_000, descending=False)
            events = await store.jobs.events(self.id, None, page, after_number=0)
            kept = await store.jobs.checkpoints(self.id, None, Page(1000))
        finally:
            await store.close()
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        reports = [event.detail for event in events if isinstance(event.detail, MetricsReport)]
        told = [(one.step, name) for one in reports for name in one.metrics]
        assert told
        assert len(told) == len(set(told))
        there = {int(path.name.removeprefix("step-")) for path in self.folder.checkpoints.iterdir()}
        assert {one.step for one in kept} == there


@pytest.mark.timeout(1200)
async def test_kills_of_worker_service_and_both(folder: Path) -> None:
    """Takes about a minute."""
    half = STEPS // 2
    async with running(folder) as stack:
        one, other = [await Training.begun(stack) for _ in range(2)]
        await one.until_step(random.randrange(1, half - 10))
        await one.kill("worker")
        await one.until_step(random.randrange(half, STEPS - 10))
        await one.kill("service")  # whose worker goes on, and is found by the next one
        await other.until_step(random.randrange(1, STEPS - 10))
        await other.kill("both")
        results = [await one.succeeded(), await other.succeeded()]
    # However often they were killed: the same seed and examples come to the same, to the byte.
    assert len(set(results)) == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_twenty_rounds_of_kills_at_random_moments(folder: Path) -> None:
    """Takes about fifteen minutes."""
    choice = random.Random()
    results: set[tuple[int, str]] = set()
    async with running(folder) as stack:
        for _ in range(20):
            training = await Training.begun(stack)
            for kind in choice.choices(KINDS, k=choice.randrange(1, 4)):
                # Also while files are read, workers start, and results are published.
                if choice.random() < 0.5:
                    await training.until_step(choice.randrange(1, STEPS))
                await asyncio.sleep(choice.uniform(0, 8))
                await training.kill(kind)
            results.add(await training.succeeded())
    assert len(results) == 1

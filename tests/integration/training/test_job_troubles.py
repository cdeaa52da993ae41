"""Supervised jobs that meet with trouble: bad files, full disks, catalogues that are away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.errors import DomainError, FailedPrecondition, InvalidArgument, Unavailable
from services.training.folder import model_link
from services.training.job_records import DataSource, Job, JobState, Level
from services.training.names import blob_of
from services.training.records import Page
from services.training.supervisor_running import Patience
from services.training.trainer import Worker
from services.training.trainers.local import LocalTrainer
from tests.integration.training.supervised import LINE, ME, SCRIPTED, Workshop, until, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


async def failed(shop: Workshop, job: Job) -> tuple[str, str, int, int, int]:
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert str(shop.root) not in job.error.message
    assert not shop.folder(job).training.exists()
    await shop.events(job)
    error = job.error
    return error.code, error.param, error.line, error.column, error.bad_line_count


async def test_bad_training_file(shop: Workshop) -> None:
    job = await shop.start(LINE + b'{"messages": 3}\n' + LINE + b"{\n")
    code, param, line, column, bad = await failed(shop, job)
    assert (code, param, line, bad) == ("invalid_training_file", "training_file", 2, 2)
    assert column > 0


async def test_validation_file_of_another_format(shop: Workshop) -> None:
    job = await shop.start(validation=b'{"prompt": "a", "completion": "b"}\n')
    code, param, line, _, bad = await failed(shop, job)
    assert (code, param, line, bad) == ("invalid_validation_file", "validation_file", 1, 1)


async def test_empty_training_file(shop: Workshop) -> None:
    code, param, line, *_ = await failed(shop, await shop.start(b""))
    assert (code, param, line) == ("invalid_training_file", "training_file", 0)


async def test_damaged_training_file(shop: Workshop, tmp_path: Path) -> None:
    job = await shop.start()
    [blob] = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert job.spec.training.file_id in blob_of(job.spec.training.file_id)
    blob.chmod(0o600)
    blob.write_bytes(LINE * 2 + LINE.replace(b"a", b"c"))
    code, param, *_ = await failed(shop, job)
    assert (code, param) == ("invalid_training_file", "training_file")


async def test_a_dataset_of_the_configuration(shop: Workshop, tmp_path: Path) -> None:
    shop.datasets["facts"] = tmp_path / "facts.jsonl"
    shop.datasets["facts"].write_bytes(LINE * 5)
    job = await shop.start(training=DataSource(dataset="facts"))
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert job.state is JobState.SUCCEEDED


async def test_a_dataset_that_is_gone(shop: Workshop, tmp_path: Path) -> None:
    shop.datasets["facts"] = tmp_path / "facts.jsonl"
    job = await shop.start(training=DataSource(dataset="facts"))
    code, param, *_ = await failed(shop, job)
    assert (code, param) == ("invalid_training_file", "training_dataset")


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ("job.training_data", "training_dataset"),
        ("job.validation_data", "validation_file"),
        ("job.base_model", "base_model"),
        ("", ""),
    ],
)
async def test_a_worker_holds_a_field_at_fault(
    shop: Workshop, tmp_path: Path, told: str, field: str
) -> None:
    shop.datasets["facts"] = tmp_path / "facts.jsonl"
    shop.datasets["facts"].write_bytes(LINE * 5)
    shop.script(ends={"1": {"outcome": "failed", "code": "x", "message": "No.", "param": told}})
    job = await shop.start(training=DataSource(dataset="facts"))
    code, param, *_ = await failed(shop, job)
    assert (code, param) == ("x", field)


async def test_cancelling_ends_the_reading_of_files(shop: Workshop, tmp_path: Path) -> None:
    # A pipe that nobody fills stands for a file that takes long.
    pipe = tmp_path / "facts.jsonl"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, LINE)
        shop.datasets["facts"] = pipe
        job = await shop.start(training=DataSource(dataset="facts"))
        other = await shop.start()
        async with shop.supervised():
            await shop.until_ended(other)
            await shop.jobs.cancel(job.id, ME)

            def nothing_is_left() -> bool:
                with suppress(BlockingIOError):
                    os.write(writer, LINE)  # what waits for a pipe can't be woken otherwise
                return not list(shop.folder(job).path.glob("*.jsonl*"))

            await until(nothing_is_left)
        assert (await shop.get(job)).state is JobState.CANCELLED
    finally:
        os.close(writer)


@pytest.mark.parametrize("file", ["plan.json.partial", "order.json.partial"])
async def test_full_disk(shop: Workshop, file: str) -> None:
    job = await shop.start()
    folder = shop.folder(job).path
    folder.mkdir(parents=True)
    (folder / "order.json").write_text('{"order":"pause"}')
    (folder / file).symlink_to("/dev/full")
    code, *_ = await failed(shop, job)
    assert code == "disk_full"


async def test_a_catalogue_that_is_away_is_waited_for(shop: Workshop) -> None:
    shop.catalogue.raises = [Unavailable("ModelService can't be reached.")] * 3
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert job.state is JobState.SUCCEEDED
    assert len(shop.catalogue.deployed) == 1
    warnings = [one.message for one in await shop.events(job) if one.level is Level.WARN]
    assert warnings == ["It is tried again: ModelService can't be reached."]
    assert len(await shop.results_of(job)) > 0
    listed = await shop.store.files.files("me", None, Page(100))
    assert [one.purpose for one in listed].count("fine-tune-results") == 1


async def test_a_catalogue_that_is_away_does_not_keep_a_job_from_being_cancelled(
    shop: Workshop,
) -> None:
    shop.catalogue.raises = [Unavailable("ModelService can't be reached.")] * 1000
    job = await shop.start()
    async with shop.supervised():
        await until(lambda: len(shop.catalogue.raises) < 999)
        await shop.jobs.cancel(job.id, ME)
        job = await shop.until_ended(job)
    assert job.state is JobState.CANCELLED
    assert not model_link(shop.root, job.model_id).is_symlink()


async def test_a_catalogue_that_is_away_keeps_no_other_job_from_training(shop: Workshop) -> None:
    shop.catalogue.raises = [Unavailable("ModelService can't be reached.")] * 1000
    first, second = await shop.start(), await shop.start()
    async with shop.supervised(max_jobs=1):
        for job in (first, second):
            await shop.until(job, lambda job: job.step == 6)
        shop.catalogue.raises.clear()
        for job in (first, second):
            assert (await shop.until_ended(job)).state is JobState.SUCCEEDED


@pytest.mark.parametrize("error", [InvalidArgument("No."), FailedPrecondition("No.")])
async def test_a_catalogue_that_refuses(shop: Workshop, error: DomainError) -> None:
    shop.catalogue.raises = [error]
    code, *_ = await failed(shop, await shop.start())
    assert code == "deployment_failed"


async def test_a_broken_folder_is_the_trouble_of_its_job_alone(shop: Workshop) -> None:
    broken = await shop.start()
    shop.folder(broken).path.parent.mkdir(parents=True)
    shop.folder(broken).path.write_text("no folder")
    job = await shop.start()
    async with shop.supervised():
        assert (await shop.until_ended(job)).state is JobState.SUCCEEDED
        warnings = [one for one in await shop.events(broken) if one.level is Level.WARN]
        assert len(warnings) == 1
        shop.folder(broken).path.unlink()
        assert (await shop.until_ended(broken)).state is JobState.SUCCEEDED


async def test_a_running_job_without_its_folder_can_be_cancelled(shop: Workshop) -> None:
    shop.script(hold_at=2)
    job = await shop.start()
    other = await shop.start()
    async with shop.supervised(max_jobs=2):
        await shop.until_worker(job)
        shop.kill_workers()
        folder = shop.folder(job).path
        folder.rename(folder.with_name("gone"))
        folder.write_text("no folder")
        await shop.jobs.cancel(job.id, ME)
        assert (await shop.until_ended(job)).state is JobState.CANCELLED
        shop.go()
        assert (await shop.until_ended(other)).state is JobState.SUCCEEDED


async def test_a_silent_worker_is_replaced(shop: Workshop) -> None:
    shop.script(silent_at={"1": 3})
    job = await shop.start()
    patience = Patience(restart_pause_s=0.01, heartbeat_timeout_s=3.0)
    async with shop.supervised(patience=patience):
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (JobState.SUCCEEDED, 1)
    assert any("silent for 3 s" in message for message in await shop.messages(job))


async def test_a_worker_that_does_not_obey_is_ended(shop: Workshop) -> None:
    shop.script(deaf=[1], hold_at=3)
    job = await shop.start()
    async with shop.supervised(patience=Patience(cancel_s=0.2)):
        await shop.until(job, lambda job: job.step == 2)
        await shop.jobs.cancel(job.id, ME)
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (JobState.CANCELLED, 0)
    assert shop.no_worker_lives(job)


async def test_a_later_supervisor_finds_the_worker_that_lives(shop: Workshop) -> None:
    shop.script(hold_at=4)
    job = await shop.start()
    async with shop.supervised():
        worker = await shop.until_worker(job)
        await shop.until(job, lambda job: job.step == 3)
    assert await shop.until_worker(job) == worker
    async with shop.supervised():
        shop.go()
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.attempt) == (JobState.SUCCEEDED, 0, 1)
    await shop.events(job)


async def test_workers_may_be_stopped_with_the_service(shop: Workshop) -> None:
    shop.script(hold_at=4, checkpoint_every=10)
    job = await shop.start()
    async with shop.supervised(stop_workers_s=60.0):
        await shop.until(job, lambda job: job.step == 3)
    assert shop.no_worker_lives(job)
    assert (await shop.get(job)).state is JobState.RUNNING
    shop.go()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.step) == (JobState.SUCCEEDED, 0, 6)
    kept = await shop.store.jobs.checkpoints(job.id, None, Page(100))
    assert 3 in [one.step for one in kept]


class FarTrainer(LocalTrainer):
    """A trainer whose workers are on other machines, which can't be asked at times."""

    def __init__(self) -> None:
        super().__init__(command=SCRIPTED)
        self.is_away = False
        self.asked = 0

    async def look(self, job_id: str, folder: Path) -> Worker:
        self.asked += 1
        if self.is_away:
            raise Unavailable("The cluster can't be reached.")
        return await super().look(job_id, folder)


async def test_workers_that_can_not_be_looked_for_are_not_dead(shop: Workshop) -> None:
    shop.script(hold_at=3)
    job = await shop.start()
    far = FarTrainer()
    async with shop.supervised(trainer=far):
        await shop.until(job, lambda job: job.step == 2)
        far.is_away, asked = True, far.asked
        await until(lambda: far.asked >= asked + 3)
        far.is_away = False
        shop.go()
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.attempt) == (JobState.SUCCEEDED, 0, 1)
    warnings = [one.message for one in await shop.events(job) if one.level is Level.WARN]
    assert warnings == ["It is tried again: The cluster can't be reached."]


async def test_one_supervisor_at_a_time(shop: Workshop) -> None:
    shop.script(hold_at=2)
    first, first_trainer = shop.supervisor()
    second, second_trainer = shop.supervisor()
    running = [asyncio.create_task(first.run())]
    job = await shop.start()
    await shop.until_worker(job)
    running.append(asyncio.create_task(second.run()))
    await asyncio.sleep(0.3)
    assert (await shop.get(job)).restart_count == 0
    running[0].cancel()
    await asyncio.wait([running[0]])
    shop.go()
    job = await shop.until_ended(job)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    running[1].cancel()
    await asyncio.wait([running[1]])
    for trainer in (first_trainer, second_trainer):
        await trainer.close()


async def test_copies_of_examples_go_with_the_job(shop: Workshop) -> None:
    shop.script(hold_at=1)
    running = await shop.start()
    async with shop.supervised():
        await shop.until_worker(running)
        waiting = await shop.start()
        await shop.until_state(waiting, JobState.QUEUED)
        checked = await shop.start()
        await until(shop.folder(checked).training.exists)
        await shop.jobs.cancel(checked.id, ME)
        await until(lambda: not shop.folder(checked).training.exists())
    assert shop.folder(waiting).training.exists()
    await shop.jobs.cancel(waiting.id, ME)
    async with shop.supervised():
        await until(lambda: not shop.folder(waiting).training.exists())
        assert shop.folder(running).training.exists()

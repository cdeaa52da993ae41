"""Supervised jobs, with workers that do what a script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.training.folder import model_link
from services.training.job_records import (
    CheckpointWritten,
    JobState,
    Level,
    MetricsReport,
    Priority,
    StateChange,
)
from services.training.records import Page
from tests.integration.training.supervised import LINE, ME, Workshop, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


def states(events: list[object]) -> list[JobState]:
    details = [getattr(event, "detail", None) for event in events]
    return [detail.after for detail in details if isinstance(detail, StateChange)]


async def test_a_job_is_validated_run_and_published(shop: Workshop) -> None:
    job = await shop.start(validation=LINE)
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.step, job.step_count) == (JobState.SUCCEEDED, 6, 6)
    assert job.trained_token_count == 60
    assert job.metrics == {"train_loss": pytest.approx(1 / 6)}
    assert job.effective is not None
    assert job.effective.batch_size == 2
    assert job.restart_count == 0
    assert job.requested_state is job.error is job.estimated_end_time is None
    events = await shop.events(job)
    assert states(events) == [
        JobState.VALIDATING_FILES,
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    reports = [one.detail for one in events if isinstance(one.detail, MetricsReport)]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    written = [one.detail for one in events if isinstance(one.detail, CheckpointWritten)]
    kept = await shop.store.jobs.checkpoints(job.id, None, Page(10, descending=False))
    assert [one.checkpoint_id for one in written] == [one.id for one in kept]
    assert [one.step for one in kept] == [2, 4, 6]
    folder = shop.folder(job)
    for checkpoint in kept:
        link = model_link(shop.root, checkpoint.model_id)
        assert link.resolve() == folder.checkpoint(checkpoint.step)
    assert model_link(shop.root, job.model_id).resolve() == folder.result
    assert shop.catalogue.deployed == [(job.model_id, "base", "me")]
    table = (await shop.results_of(job)).decode().splitlines()
    assert table[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert table[1] == "1,1.0,,,"
    assert [row.split(",")[0] for row in table[1:]] == ["1", "2", "3", "4", "5", "6"]
    assert not folder.training.exists()
    assert all(event.level is not Level.ERROR for event in events)
    assert shop.no_worker_lives(job)


async def test_a_worker_that_dies_is_replaced_and_nothing_is_told_twice(shop: Workshop) -> None:
    shop.script(steps=8, checkpoint_every=3, die_at={"1": 4, "2": 8})
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.step) == (JobState.SUCCEEDED, 2, 8)
    assert job.trained_token_count == 80
    warnings = [one for one in await shop.events(job) if one.level is Level.WARN]
    assert ["killed by signal 9" in one.message for one in warnings] == [True, True]
    assert len((await shop.results_of(job)).splitlines()) == 9
    assert len(shop.catalogue.deployed) == 1


async def test_a_worker_that_never_gets_on_is_given_up(shop: Workshop) -> None:
    shop.script(checkpoint_every=3, die_at={str(attempt): 1 for attempt in range(1, 10)})
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (JobState.FAILED, 3)
    assert job.error is not None
    assert job.error.code == "worker_died"
    assert "4 times in a row" in job.error.message
    await shop.events(job)
    assert not shop.folder(job).training.exists()


async def test_deaths_with_new_checkpoints_in_between_are_no_end(shop: Workshop) -> None:
    shop.script(steps=12, checkpoint_every=2, die_at={str(n): 2 * n for n in range(1, 7)})
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (JobState.SUCCEEDED, 6)


async def test_a_worker_that_does_not_even_begin_is_given_up(shop: Workshop) -> None:
    shop.script(die_early=[1, 2, 3, 4])
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (JobState.FAILED, 3)
    assert job.error is not None
    assert "exited with 3" in job.error.message


@pytest.mark.parametrize(
    ("ends", "state", "restarts"),
    [
        ({"outcome": "failed", "code": "out_of_memory", "message": "No memory."}, "failed", 0),
        (
            {"outcome": "failed", "code": "disk_full", "message": "Full.", "transient": True},
            "succeeded",
            1,
        ),
        ({"outcome": "paused"}, "succeeded", 0),
    ],
)
async def test_what_a_worker_says_at_its_end(
    shop: Workshop, ends: dict[str, object], state: str, restarts: int
) -> None:
    shop.script(ends={"1": ends})
    job = await shop.start()
    async with shop.supervised():
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count) == (state, restarts)
    if state == "failed":
        assert job.error is not None
        assert (job.error.code, job.error.message) == (ends["code"], ends["message"])
        assert shop.catalogue.deployed == []
    await shop.events(job)


async def test_pause_and_resume(shop: Workshop) -> None:
    shop.script(steps=6, checkpoint_every=10, hold_at=4)
    job = await shop.start()
    async with shop.supervised():
        await shop.until(job, lambda job: job.step == 3)
        asked = await shop.jobs.pause(job.id, ME)
        assert asked.requested_state is JobState.PAUSED
        job = await shop.until_state(job, JobState.PAUSED)
        assert (job.requested_state, job.step) == (None, 3)
        assert shop.no_worker_lives(job)
        shop.go()
        await shop.jobs.resume(job.id, ME)
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.step) == (JobState.SUCCEEDED, 0, 6)
    kept = await shop.store.jobs.checkpoints(job.id, None, Page(10))
    assert [one.step for one in kept] == [3]
    await shop.events(job)


async def test_a_job_is_cancelled_within_a_step(shop: Workshop) -> None:
    shop.script(hold_at=4)
    job = await shop.start()
    async with shop.supervised():
        await shop.until(job, lambda job: job.step == 3)
        await shop.jobs.cancel(job.id, ME)
        job = await shop.until_ended(job)
    assert (job.state, job.restart_count, job.step) == (JobState.CANCELLED, 0, 3)
    assert shop.no_worker_lives(job)
    assert shop.catalogue.deployed == []


async def test_max_jobs_and_their_order(shop: Workshop) -> None:
    shop.script(hold_at=1)
    low = await shop.start(priority=Priority.LOW)
    normal = await shop.start(priority=Priority.NORMAL)
    later = await shop.start(priority=Priority.NORMAL)
    high = await shop.start(priority=Priority.HIGH)
    jobs = [low, normal, later, high]
    async with shop.supervised(max_jobs=2) as supervisor:
        for job in jobs:
            await shop.until(job, lambda job: job.state is not JobState.VALIDATING_FILES)
        await shop.until_worker(high)
        found = [(await shop.get(job)).state for job in jobs]
        # Which ones came first is a matter of whose files were read first; never are there three.
        assert found.count(JobState.RUNNING) == 2
        async with asyncio.timeout(60):
            while supervisor.counts() != {JobState.RUNNING: 2, JobState.QUEUED: 2}:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        shop.go()
        ended = await asyncio.gather(*(shop.until_ended(job) for job in jobs))
    assert {job.state for job in ended} == {JobState.SUCCEEDED}

"""The supervisor is killed between any two lines of its code, and its workers with it or not."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.training.folder import model_link
from services.training.job_records import ENDED, JobState
from services.training.records import Page
from tests.integration.training import supervising_process
from tests.integration.training.supervised import Workshop, workshop

STEPS = 12


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


def run(shop: Workshop, lines: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, supervising_process.__file__, str(shop.root.parent)]
    return subprocess.Popen([*command, *([str(lines)] if lines else [])], stdout=subprocess.PIPE)


async def killed(shop: Workshop, lines: int) -> bool:
    """Runs a supervisor until it is killed, or there is nothing left for it to do. Tells which."""
    with run(shop, lines) as process:
        try:
            while await shop.store.jobs.unended():
                if process.poll() is not None:
                    assert process.returncode == -signal.SIGKILL
                    return True
                await asyncio.sleep(0.02)
        finally:
            process.kill()
    return False


async def check(shop: Workshop, tokens: int) -> None:
    [job] = await shop.store.jobs.jobs(None, [], Page(10))
    assert (job.state, job.step, job.step_count) == (JobState.SUCCEEDED, STEPS, STEPS), job.error
    assert job.trained_token_count == tokens
    await shop.events(job)
    kept = await shop.store.jobs.checkpoints(job.id, None, Page(100, descending=False))
    assert [one.step for one in kept] == list(range(3, STEPS + 1, 3))
    for one in kept:
        assert model_link(shop.root, one.model_id).resolve() == shop.folder(job).checkpoint(
            one.step
        )
    # Deploying may be repeated; it is always the same.
    assert set((shop.root.parent / "deployed").read_text().split()) == {job.model_id}
    results = await shop.store.files.files("me", None, Page(100))
    assert sum(file.purpose == "fine-tune-results" for file in results) == 1
    assert len((await shop.results_of(job)).splitlines()) == STEPS + 1
    assert not list(shop.folder(job).path.glob("*.jsonl*.partial"))
    assert not shop.folder(job).training.exists()
    assert shop.no_worker_lives(job)


async def killed_often(shop: Workshop, seed: int, kills: int) -> None:
    choice = random.Random(seed)
    shop.script(steps=STEPS, checkpoint_every=3, step_s=0.02)
    job = await shop.start()
    count = 0
    for _ in range(kills):
        count += await killed(shop, int(10 ** choice.uniform(0.5, 3.3)))
        if choice.random() < 0.4:
            shop.kill_workers()
    with run(shop) as process:
        try:
            await shop.until(job, lambda job: job.state in ENDED)
        finally:
            process.kill()
    assert count > kills / 3
    await check(shop, STEPS * 10)


@pytest.mark.timeout(600)
async def test_another_process_takes_over(shop: Workshop) -> None:
    shop.script(steps=STEPS, checkpoint_every=3, hold_at=5)
    job = await shop.start()
    with run(shop) as first:
        await shop.until_worker(job)
        await shop.until(job, lambda job: job.step == 4)
        with run(shop) as second:
            assert second.stdout is not None
            assert await asyncio.to_thread(second.stdout.readline) == b"ready\n"
            first.kill()
            shop.go()
            try:
                job = await shop.until(job, lambda job: job.state in ENDED)
            finally:
                second.kill()
    assert (job.restart_count, job.attempt) == (0, 1)
    assert await asyncio.to_thread(first.wait) == -signal.SIGKILL
    await check(shop, STEPS * 10)


@pytest.mark.timeout(600)
async def test_kills_between_any_two_lines(shop: Workshop) -> None:
    await killed_often(shop, random.SystemRandom().randrange(2**31), 6)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(20))
async def test_many_kills_between_any_two_lines(shop: Workshop, seed: int) -> None:
    """Takes about 20 s a seed."""
    await killed_often(shop, seed, 15)

"""Workers that are killed at random moments: what comes of the job is what would have come."""

import random
import time
from pathlib import Path

import pytest

from services.training.folder import Dropped, Ended, JobFolder, LoraPlan, Metrics, Saved
from services.training.journal import is_locked
from tests.conformance.tiny_models import save_model
from tests.conformance.training.warm_workers import WarmWorker
from tests.conformance.training.worker_jobs import (
    QUESTIONS,
    finish,
    kill,
    of,
    records,
    result_bytes,
    write_job,
)

pytestmark = pytest.mark.timeout(1800)  # workers take seconds to start, on busy machines more
PLAN = {"checkpoint_interval_steps": 1, "lora": LoraPlan(rank=4, dropout=0.2), "epoch_count": 3}


def killed_until_done(folder: JobFolder, kills: int, seed: int) -> Ended:
    """Kills so many workers, each some records after it began, and lets the next one end."""
    chance = random.Random(seed)
    attempt = 0
    for attempt in range(1, kills + 1):
        before = len(records(folder))
        process = WarmWorker(folder, attempt)
        wanted = chance.randrange(1, 9)
        try:
            while process.poll() is None and len(records(folder)) < before + wanted:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.2)
        finally:
            kill(process)
        assert not is_locked(folder.lock)
        ended = of(folder, Ended)
        if ended:
            return ended[-1]
    return finish(folder, attempt + 1, WarmWorker)


def check(tmp_path: Path, kills: int, seed: int, **changes: object) -> None:
    base = save_model(tmp_path / "base")
    calm = write_job(tmp_path / "calm", base, validation=QUESTIONS[:2], **{**PLAN, **changes})
    wild = write_job(tmp_path / "wild", base, validation=QUESTIONS[:2], **{**PLAN, **changes})
    expected = finish(calm, 1, WarmWorker)
    ended = killed_until_done(wild, kills, seed)
    assert ended.outcome == expected.outcome == "succeeded"
    assert (ended.step, ended.trained_token_count) == (
        expected.step,
        expected.trained_token_count,
    )
    assert expected.step == 12
    assert result_bytes(wild) == result_bytes(calm)
    for step in {record.step for record in of(calm, Saved)} - {
        record.step for record in of(calm, Dropped)
    }:
        name = next(calm.checkpoint(step).glob("*.safetensors")).name
        assert (wild.checkpoint(step) / name).read_bytes() == (
            calm.checkpoint(step) / name
        ).read_bytes()
    told = {record.step: record.metrics for record in of(calm, Metrics)}
    assert len(told) == 12
    for record in of(wild, Metrics):
        assert record.metrics == told[record.step]
    assert {record.step for record in of(wild, Saved)} == {
        record.step for record in of(calm, Saved)
    }


def test_a_job_whose_workers_are_killed_ends_as_if_none_had_been(tmp_path: Path) -> None:
    check(tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_twenty_kills(tmp_path: Path, seed: int) -> None:
    check(tmp_path, kills=20, seed=seed)


@pytest.mark.slow
def test_whole_weights_survive_kills_too(tmp_path: Path) -> None:
    check(tmp_path, kills=6, seed=4, lora=None)

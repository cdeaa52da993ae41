"""Workers as processes: what the service and the machine ask of them, and what they lack."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from services.training.folder import Ended, JobFolder, Order, Progress, Saved, Started
from services.training.journal import holder, is_locked, last_beat, worker_lock, write_order
from tests.conformance.training.warm_workers import WarmWorker
from tests.conformance.training.worker_jobs import (
    QUESTIONS,
    finish,
    kill,
    of,
    records,
    result_bytes,
    start,
    write_job,
)

pytestmark = pytest.mark.timeout(1800)  # workers take seconds to start, on busy machines more


def wait_for_steps(folder: JobFolder, count: int) -> None:
    """Waits until more steps are told of."""
    before, ended = len(of(folder, Progress)), len(of(folder, Ended))
    while len(of(folder, Progress)) < before + count:
        assert len(of(folder, Ended)) == ended, folder.log.read_text()[-2000:]
        time.sleep(0.005)


def test_pauses_evictions_and_cancels_are_obeyed_within_a_step(tmp_path: Path, base: Path) -> None:
    lines = QUESTIONS * 4
    calm = write_job(tmp_path / "calm", base, lines, epoch_count=5, batch_size=2)
    folder = write_job(tmp_path / "job", base, lines, epoch_count=5, batch_size=2)

    write_order(folder.order, Order.CANCEL)  # before it began
    assert (finish(folder, 1, WarmWorker).outcome, of(folder, Saved)) == ("cancelled", [])
    write_order(folder.order, Order.RUN)

    process = WarmWorker(folder, 2)
    try:
        wait_for_steps(folder, 1)
        assert last_beat(folder.heartbeat)
        known = holder(folder.lock)
        assert known is not None
        assert (known.pid, known.attempt, known.is_running()) == (process.pid, 2, True)
        write_order(folder.order, Order.PAUSE)
        assert process.wait() == 0
    finally:
        kill(process)
    paused = of(folder, Ended)[-1]
    assert (paused.outcome, paused.attempt) == ("paused", 2)
    assert 0 < paused.step < 110
    assert of(folder, Saved)[-1].step == paused.step
    assert not is_locked(folder.lock)

    write_order(folder.order, Order.RUN)
    process = WarmWorker(folder, 4)
    try:
        wait_for_steps(folder, 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
    finally:
        kill(process)
    assert of(folder, Ended)[-1] == paused  # it is to be gone on with: nothing has ended
    evicted = of(folder, Saved)[-1].step
    assert evicted > paused.step

    process = WarmWorker(folder, 5)
    try:
        wait_for_steps(folder, 1)
        write_order(folder.order, Order.CANCEL)
        assert process.wait() == 0
    finally:
        kill(process)
    cancelled = of(folder, Ended)[-1]
    assert (cancelled.outcome, cancelled.attempt) == ("cancelled", 5)
    assert cancelled.step > evicted

    write_order(folder.order, Order.RUN)
    ended = finish(folder, 6, WarmWorker)
    expected = finish(calm)  # as the service starts one, from its imports on
    assert ended.outcome == expected.outcome == "succeeded"
    assert ended.trained_token_count == expected.trained_token_count
    assert result_bytes(folder) == result_bytes(calm)


def test_a_second_worker_gives_way(tmp_path: Path, base: Path) -> None:
    folder = write_job(tmp_path / "job", base)
    with worker_lock(folder.lock, 1) as taken:
        assert taken
        assert start(folder, 2).wait() == 0
    assert of(folder, Started) == []


def test_a_full_disk_is_told_of(tmp_path: Path, base: Path) -> None:
    folder = write_job(tmp_path / "job", base, lora=None, checkpoint_interval_steps=3)
    room = 192 * 1024  # more than the reserve takes, less than weights do

    ended = finish(folder, 1, partial(WarmWorker, file_bytes=room))
    assert (ended.outcome, ended.code, ended.step) == ("failed", "disk_full", 3)
    assert "disk" in ended.message
    assert str(tmp_path) not in ended.message
    assert not folder.result.exists()
    assert not list(folder.checkpoints.iterdir())
    assert not (folder.path / "reserve").exists()
    # With room, the same job goes its way.
    assert finish(folder, 2, WarmWorker).outcome == "succeeded"


def test_a_wrong_command_line_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "services.training.worker", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert not list(tmp_path.iterdir())
    assert records(JobFolder(tmp_path)) == []

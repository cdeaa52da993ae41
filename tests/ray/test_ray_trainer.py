"""The Ray trainer with a real Ray and workers that train nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path

import pytest

from services.errors import Unavailable
from services.training.folder import JobFolder
from services.training.journal import process_start
from services.training.trainer import Worker, WorkerState
from services.training.trainers.ray_entrypoint import WorkerCommand
from services.training.trainers.ray_jobs import NewSubmission, RayCluster, RayJobs, Status
from services.training.trainers.ray_trainer import RayPatience, RayShare, RayTrainer
from tests.ray.conftest import CPUS
from tests.ray.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

TINY = Path(__file__).with_name("tiny_worker.py")
PATIENCE = RayPatience(quiet_s=5.0, stop_s=120.0, poll_s=0.1)

Make = Callable[..., RayTrainer]
_numbers = count(1)


@pytest.fixture
async def make(ray_address: str) -> AsyncIterator[Make]:
    """Makes trainers, as one service after the other does."""
    made: list[RayTrainer] = []

    def one(num_cpus: float = 1, processes: int = 1) -> RayTrainer:
        command = WorkerCommand(sys.executable, (str(TINY),), processes)
        share = RayShare(num_cpus=num_cpus)
        made.append(RayTrainer(RayCluster(ray_address), share, command, PATIENCE))
        return made[-1]

    yield one
    for trainer in made:
        await trainer.close()


@pytest.fixture
async def jobs(ray_address: str) -> AsyncIterator[RayJobs]:
    jobs = RayJobs(RayCluster(ray_address))
    yield jobs
    await jobs.close()


@pytest.fixture
def job_id() -> str:
    return f"ftjob-{next(_numbers)}"


@pytest.fixture
async def folder(tmp_path: Path, job_id: str, ray_address: str) -> AsyncIterator[Path]:
    """The folder of a job, whose workers all end with the test."""
    yield tmp_path
    trainer = RayTrainer(RayCluster(ray_address), patience=PATIENCE)
    await trainer.kill(job_id, tmp_path)
    await trainer.close()


def _lives(folder: Path) -> list[tuple[int, int, int, int]]:
    """Attempt, rank, process ID and parent of all that have lived."""
    try:
        lines = (folder / "lives").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


async def _seen(trainer: RayTrainer, job_id: str, folder: Path, state: WorkerState) -> Worker:
    """Waits until a worker is in a state."""
    found: list[Worker] = []

    async def there() -> bool:
        found[:] = [await trainer.look(job_id, folder)]
        return found[0].state is state

    await until(there)
    return found[0]


async def test_a_worker_is_started_once_seen_and_ends_by_itself(
    make: Make, jobs: RayJobs, job_id: str, folder: Path
) -> None:
    trainer = make()
    assert (await trainer.look(job_id, folder)).state is WorkerState.GONE
    await trainer.start(job_id, folder, 1)
    await trainer.start(job_id, folder, 1)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)
    await trainer.start(job_id, folder, 2)
    assert (await trainer.look(job_id, folder)).state is WorkerState.ALIVE

    (folder / "act").write_text("exit 0")
    gone = await _seen(trainer, job_id, folder, WorkerState.GONE)
    assert gone == Worker(WorkerState.GONE, "exited with 0")
    own = [one for one in await jobs.list() if job_id in (one.metadata or {}).values()]
    assert [one.submission_id for one in own] == [f"penstock-{job_id}-1"]
    assert [life[0] for life in _lives(folder)] == [1]


async def test_another_service_finds_a_worker_and_ends_it(
    make: Make, job_id: str, folder: Path
) -> None:
    first = make()
    await first.start(job_id, folder, 1)
    await _seen(first, job_id, folder, WorkerState.ALIVE)
    await first.close()

    second = make()
    assert (await second.look(job_id, folder)).state is WorkerState.ALIVE
    await second.start(job_id, folder, 2)
    await second.kill(job_id, folder)
    assert await second.look(job_id, folder) == Worker(WorkerState.GONE, "stopped")
    [(attempt, _, process, _)] = _lives(folder)
    assert attempt == 1
    assert process_start(process) is None
    await second.kill(job_id, folder)


async def test_a_worker_that_does_not_want_to_end_is_ended(
    make: Make, job_id: str, folder: Path
) -> None:
    trainer = make()
    (folder / "act").write_text("ignore")
    await trainer.start(job_id, folder, 1)

    async def ignoring() -> bool:
        return (folder / "ignoring").exists()

    await until(ignoring)
    await trainer.kill(job_id, folder)
    assert (await trainer.look(job_id, folder)).state is WorkerState.GONE


@pytest.mark.parametrize(
    ("act", "gone"),
    [
        ("exit 3", Worker(WorkerState.GONE, "exited with 3")),
        ("starve", Worker(WorkerState.GONE, "exited with 1", out_of_memory=True)),
        ("", Worker(WorkerState.GONE, "killed by signal 9")),
    ],
)
async def test_a_death_is_told_and_another_attempt_can_follow(
    make: Make, job_id: str, folder: Path, act: str, gone: Worker
) -> None:
    trainer = make()
    await trainer.start(job_id, folder, 1)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)
    (folder / "act").write_text(act)
    if not act:
        os.kill(_lives(folder)[0][2], signal.SIGKILL)
    assert await _seen(trainer, job_id, folder, WorkerState.GONE) == gone

    (folder / "act").unlink()
    await trainer.start(job_id, folder, 2)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)
    assert [life[0] for life in _lives(folder)] == [1, 2]


async def test_a_worker_that_ray_loses_is_replaced_only_when_it_is_gone(
    make: Make, job_id: str, folder: Path
) -> None:
    trainer = make()
    await trainer.start(job_id, folder, 1)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)
    [(_, _, process, parent)] = _lives(folder)
    os.kill(parent, signal.SIGKILL)

    gone = await _seen(trainer, job_id, folder, WorkerState.GONE)
    assert gone == Worker(WorkerState.GONE, "Ray lost it, perhaps with its node")
    assert process_start(process) is None
    await trainer.start(job_id, folder, 2)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)


async def test_what_waits_for_room_never_trains_once_it_was_killed(
    make: Make, jobs: RayJobs, job_id: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, before_folder = f"{job_id}-before", tmp_path_factory.mktemp("before")
    blocker = make(CPUS)
    await blocker.start(before, before_folder, 1)
    await _seen(blocker, before, before_folder, WorkerState.ALIVE)

    trainer = make(CPUS)
    await trainer.start(job_id, folder, 1)
    assert (await trainer.look(job_id, folder)).state is WorkerState.STARTING
    await trainer.kill(job_id, folder)
    assert (await trainer.look(job_id, folder)).state is WorkerState.GONE
    await trainer.start(job_id, folder, 2)
    assert (await trainer.look(job_id, folder)).state is WorkerState.STARTING

    await blocker.kill(before, before_folder)
    await _seen(trainer, job_id, folder, WorkerState.ALIVE)

    async def over() -> bool:
        found = await jobs.get(f"penstock-{job_id}-1")
        return found is not None and found.status.ended

    await trainer.kill(job_id, folder)
    await until(over)
    assert [life[0] for life in _lives(folder)] == [2]


async def test_several_processes_train_together(make: Make, job_id: str, folder: Path) -> None:
    trainer = make(num_cpus=2, processes=2)
    await trainer.start(job_id, folder, 1)

    async def both() -> bool:
        return len(_lives(folder)) == 2

    await until(both)
    assert sorted(life[1] for life in _lives(folder)) == [0, 1]
    await trainer.kill(job_id, folder)
    assert (await trainer.look(job_id, folder)).state is WorkerState.GONE
    for _, _, process, _ in _lives(folder):
        assert process_start(process) is None


async def test_a_job_that_ray_cannot_run_is_not_taken_for_running(
    ray_address: str, job_id: str, folder: Path
) -> None:
    command = WorkerCommand("no-such-python", (str(TINY),))
    trainer = RayTrainer(RayCluster(ray_address), command=command, patience=PATIENCE)
    await trainer.start(job_id, folder, 1)
    gone = await _seen(trainer, job_id, folder, WorkerState.GONE)
    assert gone == Worker(WorkerState.GONE, "exited with 127")
    assert "no-such-python" in JobFolder(folder).log.read_text()
    await trainer.close()


async def test_a_submission_is_taken_once(jobs: RayJobs, job_id: str, folder: Path) -> None:
    new = NewSubmission(job_id, f"echo x >> {folder}/times", {})
    await jobs.submit(new)
    with pytest.raises(Unavailable):
        await jobs.submit(new)

    async def over() -> bool:
        found = await jobs.get(job_id)
        assert found is not None
        return found.status is Status.SUCCEEDED

    await until(over)
    assert (folder / "times").read_text() == "x\n"
    assert await jobs.get(f"{job_id}-other") is None

"""Workers as processes of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.errors import Unavailable
from services.training.folder import JobFolder
from services.training.journal import Holder, holder, is_locked, process_start, worker_lock
from services.training.trainer import WorkerState
from services.training.trainers.local import LocalTrainer
from tests.integration.training.supervised import until

HOLDING = """
    import sys, time
    from pathlib import Path
    from services.training.folder import JobFolder
    from services.training.journal import worker_lock
    folder = JobFolder(Path(sys.argv[1]))
    with worker_lock(folder.lock, int(sys.argv[2])):
        (folder.path / "began").touch()
        time.sleep(3600)
"""
TELLING = """
    import json, os, sys
    from pathlib import Path
    facts = {
        "environment": dict(os.environ),
        "arguments": sys.argv[1:],
        "session": os.getsid(0) == os.getpid(),
        "oom": Path("/proc/self/oom_score_adj").read_text(),
    }
    Path(sys.argv[1], "facts").write_text(json.dumps(facts))
    print("said to the log")
"""


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.path.mkdir()
    return made


def trainer(tmp_path: Path, code: str, **options: Any) -> LocalTrainer:
    file = tmp_path / "worker.py"
    file.write_text(textwrap.dedent(code))
    return LocalTrainer(command=(sys.executable, str(file)), **options)


@pytest.fixture
async def holding(tmp_path: Path, folder: JobFolder) -> AsyncIterator[LocalTrainer]:
    """A trainer with a worker that lives."""
    made = trainer(tmp_path, HOLDING)
    await made.start("job", folder.path, 1)
    await until((folder.path / "began").exists)
    yield made
    await made.kill("job", folder.path)
    await made.close()


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with workers."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


async def state(trainer: LocalTrainer, folder: JobFolder) -> WorkerState:
    return (await trainer.look("job", folder.path)).state


async def until_gone(trainer: LocalTrainer, folder: JobFolder) -> None:
    async with asyncio.timeout(100):
        while await state(trainer, folder) is not WorkerState.GONE:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_a_worker_is_given(
    tmp_path: Path, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"PENSTOCK_SERVICE_TOKEN": "s1", "AWS_SECRET_ACCESS_KEY": "s2", "HF_TOKEN": "s3"}
    for name, value in {**secrets, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    made = trainer(tmp_path, TELLING)
    await made.start("job", folder.path, 3)
    await until((folder.path / "facts").exists)
    await until_gone(made, folder)
    facts = json.loads((folder.path / "facts").read_text())
    environment = facts["environment"]
    assert not secrets.keys() & environment.keys()
    assert not set(secrets.values()) & set(environment.values())
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    assert facts["arguments"] == [str(folder.path), "3"]
    assert facts["session"]
    assert folder.log.read_text() == "said to the log\n"
    worker = await made.look("job", folder.path)
    assert (worker.reason, worker.out_of_memory) == ("exited with 0", False)
    await made.close()


async def test_a_worker_is_started_once(holding: LocalTrainer, folder: JobFolder) -> None:
    first = holder(folder.lock)
    await holding.start("job", folder.path, 2)
    assert holder(folder.lock) == first
    assert await state(holding, folder) is WorkerState.ALIVE
    assert first is not None
    assert oom_score(first.pid) == 500


async def test_a_worker_that_was_killed_says_so(holding: LocalTrainer, folder: JobFolder) -> None:
    found = holder(folder.lock)
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    await until_gone(holding, folder)
    worker = await holding.look("job", folder.path)
    assert (worker.reason, worker.out_of_memory) == ("killed by signal 9", False)
    assert process_start(found.pid) is None, "it is reaped"


async def test_another_trainer_finds_and_ends_the_worker(
    holding: LocalTrainer, folder: JobFolder
) -> None:
    later = LocalTrainer()
    assert await state(later, folder) is WorkerState.ALIVE
    await later.start("job", folder.path, 2)  # there is one: nothing is started
    assert not folder.log.read_text()
    await later.kill("job", folder.path)
    assert await state(later, folder) is WorkerState.GONE
    assert not is_locked(folder.lock)
    await later.close()


async def test_a_worker_outlives_its_service(tmp_path: Path, folder: JobFolder) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(HOLDING))
    service = tmp_path / "service.py"
    service.write_text(
        textwrap.dedent("""
            import asyncio, os, signal, sys
            from pathlib import Path
            from services.training.trainers.local import LocalTrainer

            async def main() -> None:
                trainer = LocalTrainer(command=(sys.executable, sys.argv[1]))
                await trainer.start("job", Path(sys.argv[2]), 1)
                os.killpg(os.getpgid(0), signal.SIGKILL)

            asyncio.run(main())
        """)
    )
    command = [sys.executable, str(service), str(worker), str(folder.path)]
    done = await asyncio.to_thread(
        subprocess.run, command, start_new_session=True, check=False, timeout=100
    )
    assert done.returncode == -signal.SIGKILL
    await until((folder.path / "began").exists)
    later = LocalTrainer()
    assert await state(later, folder) is WorkerState.ALIVE
    await later.kill("job", folder.path)
    await later.kill("job", folder.path)
    assert await state(later, folder) is WorkerState.GONE
    await later.close()


async def test_only_the_worker_itself_is_ended(
    folder: JobFolder, bystander: subprocess.Popen[bytes]
) -> None:
    """The lock may name a process whose ID another one has by now."""
    with worker_lock(folder.lock, 1):
        mine = holder(folder.lock)
        assert mine is not None
        other = Holder(bystander.pid, mine.start, 1, mine.host)
        folder.lock.write_bytes(msgspec.json.encode(other).ljust(512))
        made = LocalTrainer(kill_timeout_s=0.5)
        with pytest.raises(Unavailable):
            await made.kill("job", folder.path)
    bystander.communicate(b"\n")
    assert bystander.returncode == 0


async def test_a_worker_that_does_not_begin_is_ended(tmp_path: Path, folder: JobFolder) -> None:
    made = trainer(tmp_path, "import time; time.sleep(3600)", start_timeout_s=0.2)
    await made.start("job", folder.path, 1)
    await until_gone(made, folder)
    worker = await made.look("job", folder.path)
    assert worker.state is WorkerState.GONE
    await made.close()


async def test_a_machine_that_can_start_nothing(folder: JobFolder) -> None:
    made = LocalTrainer(command=("/nowhere/python",))
    with pytest.raises(Unavailable):
        await made.start("job", folder.path, 1)
    assert await state(made, folder) is WorkerState.GONE
    await made.close()


async def test_a_worker_that_starved_says_so(tmp_path: Path, folder: JobFolder) -> None:
    """As far as the kernel's count tells, which the test writes in the kernel's own form."""
    kernel = tmp_path / "kernel"
    events = kernel / "sys/fs/cgroup/pod/memory.events"
    events.parent.mkdir(parents=True)
    (kernel / "proc/self").mkdir(parents=True)
    (kernel / "proc/self/cgroup").write_text("0::/pod\n")
    counted = "low 0\nhigh 0\nmax 7\noom 1\noom_kill {}\noom_group_kill 0\n"
    for before, after, starved in ((2, 3, True), (3, 3, False)):
        events.write_text(counted.format(before))
        made = trainer(tmp_path, HOLDING, kernel=kernel)
        await made.start("job", folder.path, 1)
        await until(lambda: holder(folder.lock) is not None)
        events.write_text(counted.format(after))
        found = holder(folder.lock)
        assert found is not None
        os.kill(found.pid, signal.SIGKILL)
        await until_gone(made, folder)
        assert (await made.look("job", folder.path)).out_of_memory is starved
        await made.close()

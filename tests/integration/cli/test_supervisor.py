import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.backoff import Backoff
from services.cli.logfile import LogFile
from services.cli.supervisor import Program, StartError, State, Supervisor

STANDIN = Path(__file__).with_name("standin.py")


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.deaths: list[tuple[str, str, float]] = []
        self.states: list[tuple[str, State]] = []

    def line(self, program: Program, line: str) -> None:
        self.lines.append((program.name, line))

    def changed(self, program: Program) -> None:
        self.states.append((program.name, program.state))

    def died(self, program: Program, how: str, wait_s: float) -> None:
        self.deaths.append((program.name, how, wait_s))


async def serves(address: str) -> None:
    assert address == "127.0.0.1:1"


class Stage:
    """Makes stand-ins and knows what they wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "events"
        self.log.touch()
        self.notes = Notes()
        self.logs: list[LogFile] = []

    def program(self, name: str, *options: str, stage: int = 0) -> Program:
        log = LogFile(self.folder / f"{name}.log")
        self.logs.append(log)
        return Program(
            name=name,
            command=[sys.executable, "-S", str(STANDIN), name, str(self.log), *options],
            environment={"PATH": os.defpath},
            log=log,
            stop_stage=stage,
            probe=serves,
            backoff=Backoff(first_s=0.05, most_s=0.2, settled_s=60),
        )

    def supervisor(self, *programs: Program, grace_s: float = 10.0) -> Supervisor:
        for program in programs:
            program.grace_s = grace_s
        return Supervisor(programs, self.notes, ready_timeout_s=30, start_attempts=3)

    def events(self, word: str) -> list[str]:
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [name for name, event, _ in lines if event == word]

    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in self.log.read_text().splitlines()]

    async def nobody_left(self) -> None:
        await until(lambda: not any(alive(pid) for pid in self.pids()))


@pytest.fixture
def stage(tmp_path: Path):
    stage = Stage(tmp_path)
    yield stage
    for log in stage.logs:
        log.close()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_start_waits_until_all_serve_and_passes_lines_on(stage: Stage) -> None:
    one, two = stage.program("one"), stage.program("two")
    supervisor = stage.supervisor(one, two)
    await supervisor.start()
    assert (one.state, two.state) == (State.READY, State.READY)
    assert one.address == "127.0.0.1:1"
    await until(lambda: len(stage.notes.lines) == 4)
    assert ("one", "WARNING a line on stderr") in stage.notes.lines
    assert ("two", "a line on stdout") in stage.notes.lines
    assert not any("service" in line for _, line in stage.notes.lines), "the ready line is no log"
    await supervisor.stop()
    assert "a line on stdout\n" in (stage.folder / "one.log").read_text()
    assert (one.state, two.state) == (State.STOPPED, State.STOPPED)
    await stage.nobody_left()


async def test_stages_stop_one_after_the_other(stage: Stage) -> None:
    supervisor = stage.supervisor(
        stage.program("model", stage=2),
        stage.program("inference", "--linger", "0.2", stage=1),
        stage.program("edge", "--linger", "0.2", stage=0),
    )
    await supervisor.start()
    await supervisor.stop()
    words = [line.split()[:2] for line in stage.log.read_text().splitlines()]
    assert [word for word in words if word[1] != "start"] == [
        ["edge", "term"],
        ["edge", "end"],
        ["inference", "term"],
        ["inference", "end"],
        ["model", "term"],
        ["model", "end"],
    ]
    await stage.nobody_left()


async def test_some_start_first_and_what_never_started_needs_no_stopping(stage: Stage) -> None:
    one, two, three = (stage.program(name) for name in ("one", "two", "three"))
    supervisor = stage.supervisor(one, two, three)
    await supervisor.start({"one"})
    assert (one.state, two.state) == (State.READY, State.WAITING)
    await supervisor.start({"two"})
    assert two.state is State.READY
    assert len(stage.events("start")) == 2
    await supervisor.stop()
    assert (one.state, two.state, three.state) == (State.STOPPED, State.STOPPED, State.WAITING)
    await stage.nobody_left()


async def test_a_killed_program_comes_back_with_a_growing_wait(stage: Stage) -> None:
    program, other = stage.program("one"), stage.program("two")
    supervisor = stage.supervisor(program, other)
    await supervisor.start()
    for round_ in (1, 2):
        pid = program.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: program.state is State.READY and program.pid != pid)
        assert len(stage.events("start")) == 2 + round_
    assert stage.notes.deaths == [
        ("one", "was killed by SIGKILL", 0.05),
        ("one", "was killed by SIGKILL", 0.1),
    ]
    await supervisor.stop()
    await stage.nobody_left()


async def test_a_program_that_crashes_later_is_restarted_for_ever(stage: Stage) -> None:
    program = stage.program("one", "--die-after", "0.05")
    supervisor = stage.supervisor(program)
    await supervisor.start()
    await until(lambda: len(stage.notes.deaths) >= 5)
    assert {how for _, how, _ in stage.notes.deaths} == {"ended with exit code 3"}
    assert max(wait for *_, wait in stage.notes.deaths) == 0.2
    await supervisor.stop()
    await stage.nobody_left()


async def test_a_program_that_never_serves_fails_the_start(stage: Stage) -> None:
    good, bad = stage.program("good"), stage.program("bad", "--fail", "1")
    supervisor = stage.supervisor(good, bad)
    with pytest.raises(StartError, match="bad ended with exit code 1") as caught:
        await supervisor.start()
    assert caught.value.program.log.tail == ["this can't work"]
    assert stage.events("start").count("bad") == 3
    await supervisor.stop()
    assert bad.state is State.FAILED
    await stage.nobody_left()


async def test_a_wrong_configuration_is_not_tried_again(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.program("bad", "--fail", "2"))
    with pytest.raises(StartError, match="ended with exit code 2"):
        await supervisor.start()
    assert stage.events("start") == ["bad"]
    await supervisor.stop()


async def test_a_program_that_says_nothing_fails_the_start(stage: Stage) -> None:
    supervisor = Supervisor(
        [stage.program("mute", "--silent")], stage.notes, ready_timeout_s=0.3, start_attempts=1
    )
    with pytest.raises(StartError, match="0 s"):
        await supervisor.start()
    await supervisor.stop()
    await stage.nobody_left()


async def test_a_missing_program_fails_the_start(stage: Stage) -> None:
    program = stage.program("gone")
    program.command = ["/nowhere/python"]
    supervisor = stage.supervisor(program)
    with pytest.raises(StartError, match="gone"):
        await supervisor.start()
    await supervisor.stop()


async def test_force_kills_what_ignores_the_request_to_stop(stage: Stage) -> None:
    stubborn, meek = stage.program("stubborn", "--ignore-term"), stage.program("meek", stage=1)
    supervisor = stage.supervisor(stubborn, meek, grace_s=60)
    await supervisor.start()
    stopping = asyncio.create_task(supervisor.stop())
    await until(lambda: stage.events("term") == ["stubborn"])
    await asyncio.sleep(0.1)
    assert not stopping.done()
    supervisor.force()
    await asyncio.wait_for(stopping, 30)
    await stage.nobody_left()


async def test_a_spent_grace_kills(stage: Stage) -> None:
    supervisor = stage.supervisor(stage.program("stubborn", "--ignore-term"), grace_s=0.3)
    await supervisor.start()
    began = time.monotonic()
    await supervisor.stop()
    assert 0.25 < time.monotonic() - began < 20
    await stage.nobody_left()


async def test_stop_during_the_start_and_during_a_wait(stage: Stage) -> None:
    bad = stage.program("bad", "--fail", "1")
    bad.backoff = Backoff(first_s=60, most_s=60)
    supervisor = stage.supervisor(bad, stage.program("slow", "--silent"))
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: bad.state is State.RESTARTING)
    await asyncio.wait_for(supervisor.stop(), 30)
    with pytest.raises(asyncio.CancelledError):
        await starting
    await stage.nobody_left()


async def test_grandchildren_go_with_their_parent(stage: Stage) -> None:
    program = stage.program("parent", "--child")
    supervisor = stage.supervisor(program)
    await supervisor.start()
    assert stage.events("child") == ["parent"]
    await asyncio.wait_for(supervisor.stop(), 30)
    await stage.nobody_left()


async def test_nobody_outlives_a_killed_supervisor(stage: Stage, tmp_path: Path) -> None:
    script = tmp_path / "supervise.py"
    script.write_text(
        "import asyncio, sys\n"
        "from services.cli.processes import ChildProcess\n"
        "async def main():\n"
        "    child = await ChildProcess.start(sys.argv[1:], {}, lambda line: None)\n"
        "    print(await child.address(10), child.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    command = (sys.executable, "-S", str(STANDIN), "orphan", str(stage.log), "--ignore-term")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *command,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert process.stdout
    pid = int((await process.stdout.readline()).split()[1])
    assert alive(pid)
    process.kill()
    await process.wait()
    await until(lambda: not alive(pid))

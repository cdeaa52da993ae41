"""Keeps a set of programs running: starts, restarts and stops them."""

import asyncio
import enum
import signal
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from services.cli.backoff import Backoff
from services.cli.logfile import LogFile
from services.cli.processes import ChildProcess, NotReadyError, describe_exit

CONFIGURATION_ERROR = 2
"""Exit status of a program that was given a wrong configuration: trying again doesn't help."""


class State(enum.Enum):
    """What a supervised program does."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class Program:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: LogFile
    stop_stage: int
    """Programs stop in the order of their stages, lowest first."""
    probe: Callable[[str], Awaitable[None]]
    """Returns once the program at this address serves."""
    grace_s: float = 35.0
    """Time that it gets to stop before it is killed."""
    backoff: Backoff = field(default_factory=Backoff)
    state: State = State.WAITING
    address: str = ""
    child: ChildProcess | None = None

    @property
    def pid(self) -> int | None:
        """The process ID of the present run."""
        return self.child.pid if self.child else None


class Observer(Protocol):
    """Is told what happens to the programs."""

    def line(self, program: Program, line: str) -> None:
        """A program wrote a line."""
        ...

    def changed(self, program: Program) -> None:
        """A program's state or process changed."""
        ...

    def died(self, program: Program, how: str, wait_s: float) -> None:
        """A program ended by itself and is started again after `wait_s`."""
        ...


class StartError(Exception):
    """A program can't be brought up. The log's tail says why."""

    def __init__(self, program: Program, how: str) -> None:
        super().__init__(f"{program.name} {how}")
        self.program = program
        self.how = how


class Supervisor:
    """Runs programs side by side until it is told to stop."""

    def __init__(
        self,
        programs: Sequence[Program],
        observer: Observer,
        *,
        ready_timeout_s: float = 300.0,
        start_attempts: int = 4,
    ) -> None:
        self.programs = programs
        self._observer = observer
        self._ready_timeout_s = ready_timeout_s
        self._start_attempts = start_attempts
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._settled: dict[str, asyncio.Future[None]] = {}
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()

    async def start(self, names: Container[str] | None = None) -> None:
        """Starts every program, or those of these names, and waits until they serve.

        Raises StartError when one can't be brought up; call `stop` then too.
        """
        loop = asyncio.get_running_loop()
        started = [one for one in self.programs if names is None or one.name in names]
        for program in started:
            self._settled[program.name] = loop.create_future()
            self._keepers[program.name] = asyncio.create_task(self._keep(program))
        await asyncio.gather(*(self._settled[program.name] for program in started))

    async def stop(self) -> None:
        """Stops every program, stage by stage; `force` or a spent grace kills what is left."""
        self._stopping.set()
        for future in self._settled.values():
            future.cancel()
        for stage in sorted({program.stop_stage for program in self.programs}):
            members = [program for program in self.programs if program.stop_stage == stage]
            await asyncio.gather(*(self._stop(program) for program in members))
        await asyncio.gather(*self._keepers.values())

    def force(self) -> None:
        """Kills everything at once."""
        self._stopping.set()
        self._forced.set()
        for program in self.programs:
            if program.child:
                program.child.signal(signal.SIGKILL)

    async def _keep(self, program: Program) -> None:
        """Runs one program again and again, until it fails for good or is told to stop."""
        served = False
        while not self._stopping.is_set():
            how, code, ready = await self._run(program)
            served = served or ready
            if self._stopping.is_set():
                break
            ran_s = program.child.ran_s if program.child else 0.0
            wait_s = program.backoff.died(ran_s)
            hopeless = code == CONFIGURATION_ERROR or program.backoff.deaths >= self._start_attempts
            if not served and hopeless:
                self._set(program, State.FAILED)
                settled = self._settled[program.name]
                if not settled.done():
                    settled.set_exception(StartError(program, how))
                return
            self._set(program, State.RESTARTING)
            self._observer.died(program, how, wait_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=wait_s)
        self._set(program, State.STOPPED)

    async def _run(self, program: Program) -> tuple[str, int | None, bool]:
        """Runs one program once: how it ended, with which status, and whether it ever served."""
        program.child = None
        self._set(program, State.STARTING)
        program.log.forget()

        def on_line(line: str) -> None:
            program.log.write(line)
            self._observer.line(program, line)

        try:
            child = await ChildProcess.start(program.command, program.environment, on_line)
        except OSError as error:
            return f"could not be started: {error}", None, False
        program.child = child
        if self._stopping.is_set():  # it was told to stop while it was being made
            child.signal(signal.SIGKILL if self._forced.is_set() else signal.SIGTERM)
        self._observer.changed(program)
        ready = False
        ended = asyncio.create_task(child.wait())
        serves = asyncio.create_task(self._until_serving(program, child))
        try:
            await asyncio.wait({ended, serves}, return_when=asyncio.FIRST_COMPLETED)
            if serves.done() and (error := serves.exception()):
                child.signal(signal.SIGKILL)
                code = await ended
                return str(error) or type(error).__name__, code, False
            if not ended.done():
                ready = True
                if not self._stopping.is_set():
                    self._set(program, State.READY)
                    settled = self._settled[program.name]
                    if not settled.done():
                        settled.set_result(None)
            code = await ended
            return describe_exit(code), code, ready
        finally:
            serves.cancel()

    async def _until_serving(self, program: Program, child: ChildProcess) -> None:
        try:
            async with asyncio.timeout(self._ready_timeout_s):
                program.address = await child.address(self._ready_timeout_s)
                await program.probe(program.address)
        except TimeoutError:
            raise NotReadyError(f"was not ready within {self._ready_timeout_s:.0f} s") from None

    async def _stop(self, program: Program) -> None:
        keeper = self._keepers.get(program.name)
        if keeper is None or keeper.done():
            return
        if program.child and program.child.exit_code is None:
            self._set(program, State.STOPPING)
            program.child.signal(signal.SIGTERM)
        forced = asyncio.create_task(self._forced.wait())
        try:
            await asyncio.wait(
                {keeper, forced}, timeout=program.grace_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            forced.cancel()
        if not keeper.done():
            if program.child:
                program.child.signal(signal.SIGKILL)
            await asyncio.wait({keeper})

    def _set(self, program: Program, state: State) -> None:
        program.state = state
        self._observer.changed(program)

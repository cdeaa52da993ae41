"""One run of the platform: starts it, shows it, and stops it."""

import asyncio
import os
import signal
import time
from collections.abc import Container, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import aio

from services.cli.catalog import SERVED_BY
from services.cli.dial import dial
from services.cli.failures import Peer, explain
from services.cli.logfile import LogFile
from services.cli.output import Output
from services.cli.plan import Plan, command
from services.cli.ports import connectable, parse_address
from services.cli.ready import until_answering, until_serving
from services.cli.record import Record, remove_record
from services.cli.roster import EDGE, Entry
from services.cli.screen import Screen
from services.cli.standing import Standing, Standings, follow_models
from services.cli.supervisor import Program, StartError, Supervisor
from services.cli.version import version
from services.cli.welcome import Welcome, to_json
from services.settings import ServiceSettings, Settings

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EDGE_GRACE_S = 30.0
GRACE_MARGIN_S = 5.0
"""Time beyond the services' own grace before they are killed."""
GIVE_WAY_S = 20.0
"""How long services that give way wait for the models of others, at most."""


@dataclass
class Serving:
    """One run of the platform."""

    plan: Plan
    settings: Settings
    data_dir: Path
    config: Path | None
    service_token: str = field(repr=False)
    new_key: str | None = field(repr=False)
    output: Output
    verbose: bool = False

    def __post_init__(self) -> None:
        self._screen = Screen(
            self.output, [entry.name for entry in self.plan.entries], verbose=self.verbose
        )
        self._state = "starting"
        self._stop = asyncio.Event()
        self._supervisor: Supervisor | None = None
        self._standings = Standings([entry.name for entry in self.plan.entries])
        self._models: list[Standing] | None = None
        """None until the catalogue was read."""
        self._moved = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Runs until a signal, and returns the exit status."""
        started = time.monotonic()
        programs = [self._program(entry) for entry in self.plan.entries]
        supervisor = self._supervisor = Supervisor(programs, self)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        try:
            with self._screen.starting():
                is_ready = await self._unless_stopped(self._start(supervisor))
            if is_ready:
                self._ready(programs, time.monotonic() - started)
                await self._stop.wait()
            self._screen.stopping()
            code = 0
        except StartError as error:
            self._screen.failed(error.program, error.how)
            code = 1
        finally:
            self._state = "stopping"
            self._record(programs)
            if self._following:
                self._following.cancel()
                await asyncio.gather(self._following, return_exceptions=True)
            await supervisor.stop()
            remove_record(self.data_dir)
            for program in programs:
                program.log.close()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
        self._screen.stopped()
        return code

    # What the supervisor tells.

    def line(self, program: Program, line: str) -> None:
        """A program wrote a line."""
        self._screen.line(program, line)

    def changed(self, program: Program) -> None:
        """A program's state or process changed."""
        if self._supervisor:
            self._record(list(self._supervisor.programs))
        self._screen.changed(program)

    def died(self, program: Program, how: str, wait_s: float) -> None:
        """A program ended by itself."""
        self._standings.restarted(program.name)
        self._screen.died(program, how, wait_s)
        if self._models is not None:
            self._models = self._standings.judge([standing.model for standing in self._models])
            self._screen.models(self._models)

    # Steps.

    async def _start(self, supervisor: Supervisor) -> None:
        for name, taken in self.plan.moved.items():
            self._screen.moved(name, taken, self.plan.addresses[name])
        later = self.plan.later
        first = {program.name for program in supervisor.programs} - later
        await supervisor.start(first)
        if "model" in self.plan.addresses:
            self._following = asyncio.create_task(self._follow())
        if later:
            with suppress(TimeoutError):
                async with asyncio.timeout(GIVE_WAY_S):
                    await self._until_settled(first)
            await supervisor.start(later)
        await self._until_settled(first | later)

    async def _until_settled(self, services: Container[str]) -> None:
        """Returns once there is nothing to wait for of the models that these services load."""
        if self._following is None:
            return
        while not self._are_settled(services):
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait({moved, self._following}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
            if self._following.done():
                self._following.result()  # raises what ended it
            self._moved.clear()

    def _are_settled(self, services: Container[str]) -> bool:
        return self._models is not None and all(
            standing.is_settled
            for standing in self._models
            if SERVED_BY.get(standing.model.kind, "") in services
        )

    async def _follow(self) -> None:
        """Keeps in view where the models stand."""
        address = str(connectable(self.plan.addresses["model"]))
        try:
            async with self._channel(address) as opened:
                async for models in follow_models(opened):
                    self._models = self._standings.judge(models)
                    self._screen.models(self._models)
                    self._moved.set()
        except aio.AioRpcError as error:
            raise explain(error, Peer("model", address, "--data-dir")) from error

    async def _unless_stopped(self, start: Coroutine[Any, Any, None]) -> bool:
        """Awaits the start; False when a signal came before its end."""
        starting = asyncio.create_task(start)
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if starting.done():
            starting.result()
            return True
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
        return False

    def _ready(self, programs: list[Program], took_s: float) -> None:
        self._state = "ready"
        self._record(programs)
        welcome = Welcome(
            version=version(),
            url=self._url(),
            admin_key_file=self.data_dir / "admin-key",
            new_key=self.new_key,
            log_dir=self.data_dir / "logs",
            took_s=took_s,
            programs=programs,
            models=self._models or [],
        )
        if self.output.as_json:
            self.output.data(to_json(welcome))
        else:
            self._screen.ready(welcome)

    def _signalled(self) -> None:
        if self._stop.is_set() and self._supervisor:
            self._supervisor.force()
        self._stop.set()

    def _program(self, entry: Entry) -> Program:
        return Program(
            name=entry.name,
            command=command(entry, self.plan, self.data_dir, self.config),
            environment=self.plan.environment,
            log=LogFile(self.data_dir / "logs" / f"{entry.name}.log"),
            stop_stage=entry.stop_stage,
            grace_s=self._grace_s(entry) + GRACE_MARGIN_S,
            probe=until_answering if entry is EDGE else self._probe,
        )

    def _grace_s(self, entry: Entry) -> float:
        service: ServiceSettings | None = getattr(self.settings.services, entry.name, None)
        return service.grace_s + service.drain_delay_s if service else EDGE_GRACE_S

    async def _probe(self, address: str) -> None:
        where = str(connectable(parse_address(address)))
        async with self._channel(where) as opened:
            await until_serving(opened)

    def _channel(self, address: str) -> aio.Channel:
        return dial(address, self.settings, self.service_token)

    def _url(self) -> str:
        edge = next((program for program in self._programs() if program.name == EDGE.name), None)
        if edge is None:
            return ""
        address = parse_address(edge.address) if edge.address else self.plan.addresses[EDGE.name]
        return f"http://{connectable(address)}"

    def _programs(self) -> list[Program]:
        return list(self._supervisor.programs) if self._supervisor else []

    def _record(self, programs: list[Program]) -> None:
        Record(
            url=self._url(),
            state=self._state,
            addresses={
                name: str(connectable(address)) for name, address in self.plan.addresses.items()
            },
            pids={"supervisor": os.getpid()}
            | {program.name: program.pid for program in programs if program.pid},
        ).write(self.data_dir)

"""A control loop between a catalogue that says what a test says and a loader that obeys it."""
# ruff: noqa: ASYNC110 - what is waited for are plain values

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from services.errors import Unavailable
from services.serving.catalogue import (
    Attacher,
    CatalogueEvent,
    LoadKey,
    Observation,
    ObservedState,
    WantedModel,
)
from services.serving.control import ControlLoop, ControlSettings
from services.serving.deployments import Deployments, DeploymentSettings
from services.serving.models import ModelKind, Served
from services.serving.registry import Registry

LOADING, READY = ObservedState.LOADING, ObservedState.READY
FAILED, DRAINING = ObservedState.FAILED, ObservedState.DRAINING
KINDS = frozenset({ModelKind.CHAT})


def wanted(id: str = "m", revision: int = 1, **more: Any) -> WantedModel:
    key = LoadKey(f"uid-{id}", f"models/{id}/revisions/{revision}", "/weights")
    return replace(WantedModel(id, ModelKind.CHAT, key), **more)


class Machine:
    """Something loaded."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: Exception | None = None

    async def probe(self) -> None:
        if self.broken is not None:
            raise self.broken

    async def close(self) -> None:
        self.calls.append("close")


class RemoteMachine(Machine):
    """Something loaded elsewhere, where it can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.loss: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def lost(self) -> Exception:
        return await self.loss


class Loader:
    """Loads when the test opens the gate, and fails when told to."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.probes: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.machines: dict[str, Machine] = {}
        self.machine: Callable[[], Machine] = Machine
        self.at_once = self.most_at_once = 0

    async def load(self, wanted: WantedModel, progress: Callable[[float], None]) -> Served[Any]:
        revision = wanted.load.revision
        self.loads.append(revision)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            progress(0.5)
            if revision in self.gates:
                await self.gates[revision].wait()
            await asyncio.sleep(0)
            if revision in self.failures:
                raise self.failures[revision]
            return self.make(wanted)
        finally:
            self.at_once -= 1

    def make(self, wanted: WantedModel) -> Served[Any]:
        """What comes of a load. Tests of one service's own models replace it."""
        revision = wanted.load.revision
        machine = self.machines[revision] = self.machine()
        machine.broken = self.probes.get(revision)
        return Served(wanted.id, wanted.kind, revision, machine)


class FakeCatalogue:
    """Says what the test says, and keeps what is reported."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[CatalogueEvent | Exception | None] = asyncio.Queue()
        self.reports: list[Sequence[Observation[Any]]] = []
        self.watched: list[int] = []
        self.deaf = False

    async def watch(self, after: int) -> AsyncGenerator[CatalogueEvent, None]:
        self.watched.append(after)
        while (event := await self.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    async def report(self, observations: Sequence[Observation[Any]]) -> float:
        if self.deaf:
            raise Unavailable("away")
        self.reports.append(tuple(observations))
        return 0.2

    def say(self, *events: CatalogueEvent | Exception | None) -> None:
        for event in events:
            self.events.put_nowait(event)


class World:
    """A control loop between a fake catalogue and a fake loader."""

    def __init__(self, loader: Loader | None = None, attacher: Attacher[Any] | None = None) -> None:
        self.catalogue = FakeCatalogue()
        self.loader = loader or Loader()
        self.registry: Registry[Any] = Registry(KINDS, "it can't do this")
        self.health: dict[str, bool | None] = {}
        self.deployments = Deployments(
            self.loader,
            self.registry,
            self.health.__setitem__,
            DeploymentSettings(retry_least_s=0.02, retry_most_s=0.05, drain_grace_s=0.2),
            attacher=attacher,
        )
        settings = ControlSettings(
            silence_s=0.3, reconnect_least_s=0.01, reconnect_most_s=0.02, report_pause_s=0.0
        )
        self.loop = ControlLoop(self.catalogue, self.deployments, settings)

    def states(self) -> dict[str, ObservedState]:
        return {one.revision[7:]: one.state for one in self.deployments.observations()}

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.001)

    async def until_states(self, **states: ObservedState) -> None:
        wanted = {name.replace("_", "/revisions/"): state for name, state in states.items()}
        await self.until(lambda: self.states() == wanted)

    def serving(self, id: str = "m") -> str:
        return self.registry.resolve(id).revision


@asynccontextmanager
async def running(world: World | None = None) -> AsyncIterator[World]:
    world = world or World()
    task = asyncio.create_task(world.loop.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

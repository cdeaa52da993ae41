"""LoRA adapters as models of their own: attached to a base that this process serves.

An adapter has no weights but its own small ones. It serves as long as it is attached to the
revision of its base that is served: where another one takes over, it is attached to that, and what
runs on the old one finishes there.
"""

import asyncio
from pathlib import Path

from services.adapters import holds_adapter
from services.errors import FailedPrecondition
from services.inference.engine import (
    Engine,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    LoadedModel,
    Sink,
)
from services.inference.registry import AnyServed, ServedModel, ServedTensors
from services.serving.catalogue import LoadKey, WantedModel
from services.serving.loading import ECHO, local_folder, resolve_source
from services.serving.models import ModelKind


class HeldBase:
    """An adapter's engine, for as long as it keeps its base's from being closed."""

    def __init__(self, engine: Engine, base: ServedModel) -> None:
        self._engine = engine
        self._base: ServedModel | None = base
        base.hold()

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._engine.info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        return self._engine.submit(group, sink)

    async def compile(self, grammar: Grammar) -> object:
        """Makes a form ready."""
        return await self._engine.compile(grammar)

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        return self._engine.status()

    async def probe(self) -> None:
        """Runs one real forward pass."""
        await self._engine.probe()

    async def attach(self, name: str, folder: Path) -> Engine:
        """Refuses, as the adapter's engine does."""
        return await self._engine.attach(name, folder)

    async def close(self) -> None:
        """Detaches the adapter and lets its base go."""
        try:
            await self._engine.close()
        finally:
            base, self._base = self._base, None
            if base is not None:
                base.let_go()


class Adapters:
    """An `Attacher`: an adapter is a folder that holds PEFT's description and no whole weights."""

    def __init__(self, default_engine: str) -> None:
        self._default = default_engine

    async def folder(self, wanted: WantedModel) -> Path | None:
        """The folder of an adapter; None for a model with weights of its own."""
        key = wanted.load
        if not key.base:
            return None
        find = local_folder if (key.engine or self._default) == ECHO else resolve_source
        folder = await find(key.source)
        if folder is None or not await asyncio.to_thread(holds_adapter, folder):
            return None
        return folder

    async def attach(self, wanted: WantedModel, folder: Path, base: AnyServed) -> ServedModel:
        """Loads an adapter beside its base.

        Raises:
            FailedPrecondition: it asks for what only a base can have, or does not fit its base.
        """
        _check_options(wanted.load)
        if isinstance(base, ServedTensors) or wanted.kind is ModelKind.TENSOR:
            raise FailedPrecondition("Tensor models neither are nor have adapters.")
        engine = await base.loaded.engine.attach(wanted.id, folder)
        loaded = LoadedModel(HeldBase(engine, base), base.loaded.text)
        return ServedModel(wanted.id, wanted.kind, wanted.load.revision, loaded, wanted.settings)


def _check_options(key: LoadKey) -> None:
    given = {
        "context_length": key.context_length,
        "quantization": "" if key.dtype == "auto" else key.dtype,
        "engine": key.engine,
    }
    named = [name for name, value in given.items() if value]
    if named:
        raise FailedPrecondition(
            f"An adapter runs with its base's {', '.join(named)}: leave that out of the adapter's "
            f"deployment and set it for the base."
        )

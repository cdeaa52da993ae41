"""LoRA adapters as models of their own: attached to a base that this process serves.

An adapter has no weights but its own small ones. It serves as long as it is attached to the
revision of its base that is served: where another one takes over, it is attached to that, and what
runs on the old one finishes there.
"""

from pathlib import Path

from services.errors import FailedPrecondition
from services.inference.catalogue import LoadKey, WantedModel
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
from services.inference.registry import ServedModel


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


async def attach(wanted: WantedModel, folder: Path, base: ServedModel) -> LoadedModel:
    """Loads an adapter beside its base.

    Raises:
        FailedPrecondition: it asks for what only a base can have, or does not fit its base.
    """
    _check_options(wanted.load)
    engine = await base.loaded.engine.attach(wanted.id, folder)
    return LoadedModel(HeldBase(engine, base), base.loaded.text)


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

"""A LoRA adapter that a model in Triton has beside itself."""

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from services.errors import FailedPrecondition, Internal, InvalidArgument
from services.inference.engine import (
    Engine,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    Sink,
)


class Base(Protocol):
    """What the model's engine does for its adapters."""

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        ...

    def compile(self, grammar: Grammar) -> Awaitable[object]:
        """Makes a form ready."""
        ...

    def status_of(self, adapter: str) -> EngineStatus:
        """Counts of an adapter."""
        ...

    def try_once(self, adapter: str) -> Awaitable[None]:
        """Has the model answer with an adapter."""
        ...


class TritonAdapter:
    """An engine that is the model's with an adapter, by its name in Triton."""

    def __init__(self, name: str, info: EngineInfo, base: Base) -> None:
        self._name = name
        self._base = base
        self.info = replace(
            info,
            capabilities=replace(info.capabilities, lora=False),
            build=f"{info.build}_lora-{name}",
        )

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group among the model's."""
        return self._base.submit(replace(group, adapter=self._name), sink)

    async def compile(self, grammar: Grammar) -> object:
        """Makes a form ready, as the model does."""
        return await self._base.compile(grammar)

    def status(self) -> EngineStatus:
        """Counts of this adapter; what it has completed is counted with the model."""
        return self._base.status_of(self._name)

    async def probe(self) -> None:
        """Has the model answer once with the adapter."""
        try:
            await self._base.try_once(self._name)
        except (Internal, InvalidArgument) as error:  # its own words are in the log
            raise FailedPrecondition(
                f"The model in Triton has no adapter `{self._name}`: name it so in its "
                f"multi_lora.json, and load the model anew."
            ) from error

    async def attach(self, name: str, folder: Path) -> Engine:
        """Refuses: an adapter changes a model, not another adapter."""
        raise FailedPrecondition(
            "The base is an adapter itself: deploy the adapter on the model below it."
        )

    async def close(self) -> None:
        """Nothing: the adapter belongs to the model in Triton."""

"""A LoRA adapter beside a model that a torch engine runs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from services.errors import FailedPrecondition
from services.inference.engine import (
    Engine,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    Sink,
)
from services.inference.engines.decoder_adapters import ReadAdapter
from services.inference.engines.decoder_peft import WEIGHTS

COPIES = 3
"""Times that an adapter is in memory while it is taken in: as read, by itself, and stacked."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a model's engine does for one of its adapters."""

    submit: Callable[[GroupRequest, Sink], GroupHandle]
    compile: Callable[[Grammar], Awaitable[object]]
    status: Callable[[], EngineStatus]
    probe: Callable[[], Awaitable[None]]
    detach: Callable[[], Awaitable[None]]


class TorchAdapter:
    """An engine that is another one with an adapter: no weights, batches or thread of its own."""

    def __init__(self, key: str, info: EngineInfo, bench: Bench) -> None:
        self._key = key
        self._info = info
        self._bench = bench

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group among the model's."""
        return self._bench.submit(replace(group, adapter=self._key), sink)

    async def compile(self, grammar: Grammar) -> object:
        """Makes a form ready; forms are the same for all adapters."""
        return await self._bench.compile(grammar)

    def status(self) -> EngineStatus:
        """Counts of this adapter."""
        return self._bench.status()

    async def probe(self) -> None:
        """Runs one real forward pass with the adapter."""
        await self._bench.probe()

    async def attach(self, name: str, folder: Path) -> Engine:
        """Refuses: an adapter changes a model, not another adapter."""
        raise FailedPrecondition(
            "The base is an adapter itself: deploy the adapter on the model below it."
        )

    async def close(self) -> None:
        """Fails what runs with the adapter and frees it. The model goes on."""
        await self._bench.detach()


def adapted_info(info: EngineInfo, adapter: ReadAdapter) -> EngineInfo:
    """What a model is with an adapter."""
    return replace(
        info,
        parameter_count=info.parameter_count + adapter.parameter_count,
        capabilities=replace(info.capabilities, lora=False),
        build=f"{info.build}_lora-{adapter.digest}",
    )


def check_room(folder: Path, free: int) -> None:
    """Raises `FailedPrecondition` where an adapter does not fit into memory."""
    file = folder / WEIGHTS
    needed = COPIES * file.stat().st_size if file.is_file() else 0
    if needed > free:
        raise FailedPrecondition(
            f"The adapter takes {needed:,} bytes of memory while it is loaded, but {free:,} are "
            f"free: lower kv_cache_bytes of this service, or delete another adapter."
        )

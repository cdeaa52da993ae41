"""What a process serves: kinds of models, their settings, and one loaded revision."""

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar, runtime_checkable


class ModelKind(Enum):
    """What a model does; values are those of the proto."""

    CHAT = 1
    COMPLETION = 2
    EMBEDDING = 3
    IMAGE = 4
    RERANK = 5
    TENSOR = 6


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of a model that may change while it serves. None and empty leave it to the model."""

    default_temperature: float | None = None
    default_top_p: float | None = None
    default_max_tokens: int | None = None
    max_tokens_limit: int | None = None
    max_batch_size: int | None = None
    """Taken when the model loads."""
    max_choices: int = 128
    system_prompt: str = ""
    stop: tuple[str, ...] = ()
    default_steps: int | None = None
    default_cfg_scale: float | None = None


class Loaded(Protocol):
    """What an engine made of a model's weights."""

    async def probe(self) -> None:
        """Runs one real forward pass; raises when the model can't answer."""
        ...

    async def close(self) -> None:
        """Fails what runs and frees what it holds."""
        ...


@runtime_checkable
class Losable(Protocol):
    """A `Loaded` that runs elsewhere, where it may be lost."""

    async def lost(self) -> Exception:
        """Waits until it can't answer any more; returns why. Then it has to be loaded anew."""
        ...


L = TypeVar("L", bound=Loaded)


@dataclass(eq=False, slots=True)
class Served(Generic[L]):
    """A loaded revision. It is closed when no request is left, and no adapter that runs on it."""

    id: str
    kind: ModelKind
    revision: str
    loaded: L
    settings: ModelSettings = field(default_factory=ModelSettings)

    active: int = field(default=0, init=False)
    """Requests."""
    adapters: int = field(default=0, init=False)
    """Adapters that run on its engine; their requests are theirs."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def prove(self, timeout_s: float) -> None:
        """Probes it, and closes what does not answer in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self.loaded.probe()
        except BaseException:
            await self.loaded.close()
            raise

    def acquire(self) -> None:
        """Counts a request in."""
        self.active += 1

    def release(self) -> None:
        """Counts a request out."""
        self.active -= 1
        self._idle.set()

    def hold(self) -> None:
        """Counts an adapter in."""
        self.adapters += 1

    def let_go(self) -> None:
        """Counts an adapter out."""
        self.adapters -= 1
        self._idle.set()

    async def idle(self) -> None:
        """Waits until no request and no adapter is left; for models that get no new ones."""
        while self.active or self.adapters:
            self._idle.clear()
            await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Known:
    """A model of the catalogue, whether or not this process serves it."""

    id: str
    kind: ModelKind
    aliases: tuple[str, ...] = ()
    failed: bool = False

"""Which adapters an engine has, and how those answer that have none. No torch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from services.errors import FailedPrecondition
from services.inference.engine import Engine, EngineInfo


@dataclass(frozen=True, slots=True)
class AdapterLimits:
    """Bounds of the memory that adapters take."""

    count: int = 0
    """Adapters of one model."""
    rank: int = 0
    """Largest rank of an adapter's matrices."""

    def check_rank(self, rank: int) -> None:
        """Raises `FailedPrecondition` where an adapter's rank is too large."""
        if rank > self.rank:
            raise FailedPrecondition(
                f"The adapter's rank is {rank}, but this service takes at most {self.rank}: train "
                f"one of a smaller rank, raise max_adapter_rank, or deploy merged weights."
            )


class AdapterRoll:
    """Adapters of one engine, by keys that are never used again.

    So what was computed with one is never taken for another's, and a new one can be there before
    the one of the same name goes.
    """

    def __init__(self, limits: AdapterLimits) -> None:
        self._limits = limits
        self._names: dict[str, str] = {}  # by key
        self._numbers = count(1)

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def enter(self, name: str) -> str:
        """Enters an adapter; returns its key.

        Raises:
            FailedPrecondition: there are too many. One that takes another's place, by the same
                name, is taken in whatever their number.
        """
        names = set(self._names.values())
        if name not in names and len(names) >= self._limits.count:
            raise FailedPrecondition(
                f"The base serves {len(names)} adapters, and this service lets it serve no more: "
                f"delete one of them, or raise max_adapters."
            )
        key = f"{name}#{next(self._numbers)}"
        self._names[key] = name
        return key

    def strike(self, key: str) -> None:
        """Takes an adapter off the roll."""
        self._names.pop(key, None)


class WithoutAdapters(ABC):
    """The part of an engine that has no LoRA."""

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """What the engine is."""
        ...

    async def attach(self, name: str, folder: Path) -> Engine:
        """Refuses."""
        raise without_adapters(self.info)


def without_adapters(info: EngineInfo) -> FailedPrecondition:
    """The refusal of adapters by an engine that has no LoRA."""
    return FailedPrecondition(
        f"The base runs on the engine '{info.name}' without LoRA adapters: deploy the adapter "
        f"merged into its weights, or the base on the engine 'torch' with an architecture that its "
        f"own decoder knows (and max_adapters above 0)."
    )

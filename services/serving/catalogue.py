"""The catalogue port: what this process is to serve, and what it reports about it."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from services.serving.models import ModelKind, ModelSettings, Served

S = TypeVar("S", bound=Served[Any])
S_co = TypeVar("S_co", bound=Served[Any], covariant=True)


@dataclass(frozen=True, slots=True)
class LoadKey:
    """What makes a loaded model another one: a change of any of it loads anew."""

    uid: str
    revision: str
    source: str
    context_length: int = 0
    dtype: str = "auto"
    engine: str = ""
    base: str = ""
    """Model that it was fine-tuned from; for an adapter, the one that it is attached to."""
    dimensions: int = 0
    """Length of an embedding model's vectors; 0 takes what the weights say."""


@dataclass(frozen=True, slots=True)
class WantedModel:
    """A model that the catalogue wants served."""

    id: str
    kind: ModelKind
    load: LoadKey
    aliases: tuple[str, ...] = ()
    settings: ModelSettings = field(default_factory=ModelSettings)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is wanted."""

    sequence: int
    models: Sequence[WantedModel]


@dataclass(frozen=True, slots=True)
class Changed:
    """A model was added or changed."""

    sequence: int
    model: WantedModel


@dataclass(frozen=True, slots=True)
class Deleted:
    """A model is no longer wanted."""

    sequence: int
    id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""

    sequence: int


CatalogueEvent = Snapshot | Changed | Deleted | Heartbeat


class ObservedState(Enum):
    """What this process has of a revision; values are those of the proto."""

    LOADING = 1
    READY = 2
    FAILED = 3
    DRAINING = 4


@dataclass(frozen=True, slots=True)
class Observation(Generic[S]):
    """What this process has of one revision."""

    revision: str
    state: ObservedState
    message: str = ""
    progress: float = 0.0
    served: S | None = None
    """Set when READY or DRAINING."""


class Catalogue(Protocol[S]):
    """ModelService, as this process needs it."""

    def watch(self, after: int) -> AsyncGenerator[CatalogueEvent, None]:
        """Streams what is wanted: a snapshot, or for `after` > 0 the changes since, then changes.

        Raises a `DomainError` when the catalogue can't be reached.
        """
        ...

    async def report(self, observations: Sequence[Observation[S]]) -> float:
        """Tells all that this process has. Returns the seconds until the next report is due."""
        ...


class ModelLoader(Protocol[S_co]):
    """Loads models with the engine that each wants."""

    async def load(self, wanted: WantedModel, progress: Callable[[float], None]) -> S_co:
        """Loads off the event loop. Raises a `DomainError` that says what to do."""
        ...


class Attacher(Protocol[S]):
    """Serves adapters: models that run on another one's engine."""

    async def folder(self, wanted: WantedModel) -> Path | None:
        """The folder of a model that is an adapter on its base; None for one with weights of its
        own, which is loaded. Raises a `DomainError` where that can't be told."""
        ...

    async def attach(self, wanted: WantedModel, folder: Path, base: S) -> S:
        """Loads an adapter beside its base. Raises a `DomainError` that says what to do."""
        ...

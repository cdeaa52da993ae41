"""What this process has of one model."""

import asyncio
from dataclasses import dataclass, field

from services.inference.backoff import Backoff
from services.inference.catalogue import LoadKey, Observation, ObservedState
from services.inference.registry import ServedModel


@dataclass(slots=True)
class Load:
    """A load that runs."""

    key: LoadKey
    task: asyncio.Task[None]
    progress: float = 0.0


@dataclass(slots=True)
class Failure:
    """A load that failed, and when it is tried again."""

    key: LoadKey
    message: str
    permanent: bool
    backoff: Backoff
    retry: asyncio.TimerHandle | None = None
    due: bool = False


@dataclass(slots=True)
class Slot:
    """What this process has of one model."""

    id: str
    serving: ServedModel | None = None
    serving_key: LoadKey | None = None
    load: Load | None = None
    failure: Failure | None = None
    draining: list[ServedModel] = field(default_factory=list[ServedModel])

    @property
    def empty(self) -> bool:
        """True when nothing is left of the model."""
        return not (self.serving or self.load or self.failure or self.draining)

    def observations(self) -> list[Observation]:
        """What is reported of it."""
        found: list[Observation] = []
        if self.serving is not None:
            ready = ObservedState.READY
            found.append(Observation(self.serving.revision, ready, "", 1.0, self.serving))
        if self.load is not None:
            loading = ObservedState.LOADING
            found.append(Observation(self.load.key.revision, loading, "", self.load.progress))
        elif self.failure is not None:
            failed = ObservedState.FAILED
            found.append(Observation(self.failure.key.revision, failed, self.failure.message))
        for served in self.draining:
            message = f"{served.active} requests still run."
            draining = ObservedState.DRAINING
            found.append(Observation(served.revision, draining, message, 1.0, served))
        return found

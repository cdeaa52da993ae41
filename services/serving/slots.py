"""What this process has of one model."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from services.errors import DomainError
from services.serving.backoff import Backoff
from services.serving.catalogue import LoadKey, Observation, ObservedState
from services.serving.models import Served

S = TypeVar("S", bound=Served[Any])


@dataclass(frozen=True, slots=True)
class Prospect(Generic[S]):
    """What an adapter can hope for from its base. A change of it is worth another attempt."""

    base: S | None = None
    """The revision that serves."""
    adapters: int = 0
    """Adapters that it serves: one less may make room."""
    reason: str = ""
    """Why there is none, nor will be without a change."""

    @classmethod
    def missing(cls, id: str) -> "Prospect[S]":
        """The prospect without such a base."""
        return cls(
            reason=f"Its base model '{id}' is not among the models that this service serves: "
            f"deploy that first, under this ID."
        )

    @property
    def settled(self) -> bool:
        """False while the base loads."""
        return self.base is not None or bool(self.reason)


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """How the loop behaves."""

    load_concurrency: int = 1
    """Models that load at the same time."""
    probe_timeout_s: float = 120.0
    drain_grace_s: float = 600.0
    """Time that running requests get to finish on a revision that was replaced or removed."""
    retry_least_s: float = 1.0
    retry_most_s: float = 60.0


@dataclass(slots=True)
class Load:
    """A load that runs."""

    key: LoadKey
    task: asyncio.Task[None]
    progress: float = 0.0
    message: str = ""


@dataclass(slots=True)
class Failure(Generic[S]):
    """A load that failed, and when it is tried again."""

    key: LoadKey
    message: str
    permanent: bool
    prospect: Prospect[S] | None
    """What there was to hope for when an adapter failed."""
    backoff: Backoff
    retry: asyncio.TimerHandle | None = None
    due: bool = False


@dataclass(slots=True)
class Slot(Generic[S]):
    """What this process has of one model."""

    id: str
    serving: S | None = None
    serving_key: LoadKey | None = None
    base: S | None = None
    """What the serving revision is attached to, where it is an adapter."""
    load: Load | None = None
    failure: Failure[S] | None = None
    draining: list[S] = field(default_factory=list[S])

    @property
    def empty(self) -> bool:
        """True when nothing is left of the model."""
        return not (self.serving or self.load or self.failure or self.draining)

    def prospect(self) -> Prospect[S]:
        """What an adapter on it can hope for."""
        if self.serving is not None:
            return Prospect(self.serving, self.serving.adapters)
        if self.load is None and self.failure is not None:
            return Prospect(
                reason=f"Its base model '{self.id}' failed to load: {self.failure.message}"
            )
        return Prospect()

    def stop_load(self) -> None:
        """Ends a load that is no longer wanted."""
        if self.load is not None:
            self.load.task.cancel()
            self.load = None

    def forgive(self) -> None:
        """Forgets a failure."""
        if self.failure is not None and self.failure.retry is not None:
            self.failure.retry.cancel()
        self.failure = None

    def observations(self) -> list[Observation[S]]:
        """What is reported of it."""
        found: list[Observation[S]] = []
        if self.serving is not None:
            ready = ObservedState.READY
            found.append(Observation(self.serving.revision, ready, "", 1.0, self.serving))
        if self.load is not None:
            load, loading = self.load, ObservedState.LOADING
            found.append(Observation(load.key.revision, loading, load.message, load.progress))
        elif self.failure is not None:
            failed = ObservedState.FAILED
            found.append(Observation(self.failure.key.revision, failed, self.failure.message))
        for served in self.draining:
            message = f"{served.active} requests still run."
            if served.adapters:
                message = f"{message[:-1]}, and {served.adapters} adapters are attached."
            draining = ObservedState.DRAINING
            found.append(Observation(served.revision, draining, message, 1.0, served))
        return found


def in_words(error: Exception) -> str:
    """What people are told of a failure."""
    if isinstance(error, DomainError):
        return error.message
    if isinstance(error, TimeoutError):
        return "It took too long."
    return "It failed in a way that was not foreseen; the log of the serving process tells how."

"""The port to the catalogue: where base models come from and results go to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model to start from."""

    id: str
    """Its ID; aliases are resolved."""
    kind: str
    """`chat` or `completion`."""
    folder: Path
    """Whole weights, with tokenizer and configuration."""
    whole_id: str
    """The model whose weights they are: its own ID, or that of the base of an adapter."""
    adapter: Path | None = None
    """The adapter's folder, where the model is one."""
    context_length: int = 0
    """Most tokens that it is served with; 0 where that isn't known."""


class BaseModels(Protocol):
    """Finds bases and deploys results."""

    async def find(self, name: str) -> BaseModel:
        """Finds a base by ID or alias.

        Raises:
            ModelNotFound: there is none; the field is `job.base_model`.
            InvalidArgument: it is of a kind that can't be trained.
            FailedPrecondition: its weights are not where this service runs.
            Unavailable: the catalogue does not answer.
        """
        ...

    async def deploy(self, model_id: str, base: str, job_id: str, owner: str) -> str:
        """Has a result served under its ID, with the settings of its base. May be repeated: what
        was deployed before and deleted since stays deleted.

        Waits a while for it to serve. Returns why it doesn't, for people; nothing where it does.

        Raises:
            Unavailable: the catalogue does not answer; to be tried again.
            DomainError: the catalogue refuses.
        """
        ...

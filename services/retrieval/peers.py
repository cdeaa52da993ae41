"""Ports to the services that this one calls, on behalf of whoever calls it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Task(Enum):
    """What a vector is for; values are those of the proto."""

    QUERY = 1
    DOCUMENT = 2


class Priority(Enum):
    """Order among waiting requests; values are those of the proto."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class RerankMethod(Enum):
    """How documents were scored; values are those of the proto."""

    CROSS_ENCODER = 1
    EMBEDDING_SIMILARITY = 2


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf, and until when, other services are called."""

    id: str
    """The principal's."""
    credential: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Metadata that says who calls: other services check it again."""
    deadline: float | None = None
    """On the event loop's clock."""

    def remaining_s(self, most: float) -> float:
        """Returns how long a call may take: until the deadline, and at most this."""
        if self.deadline is None:
            return most
        return max(0.0, min(most, self.deadline - asyncio.get_running_loop().time()))


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model as the catalogue has it."""

    id: str
    context_length: int | None
    """Most tokens of an input. None: not known."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of texts, in their order."""

    model: str
    """ID of the model that made them, with aliases resolved."""
    vectors: NDArray[np.float32]
    """[texts, dimensions]."""
    token_counts: Sequence[int]
    """Of each text, with the model's special tokens."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def token_count(self) -> int:
        """Tokens of all texts."""
        return sum(self.token_counts)


@dataclass(frozen=True, slots=True)
class Ranked:
    """Documents scored by how well they answer a query."""

    scores: Sequence[float]
    """Of each document, in the order in which they were given."""
    method: RerankMethod
    token_count: int
    """Tokens that were read."""


class Models(Protocol):
    """The catalogue's embedding models."""

    async def embedding_model(self, name: str, caller: Caller) -> EmbeddingModel:
        """Returns the one that has this ID or alias; for an empty name the first by ID that
        serves.

        Raises:
            ModelNotFound: there is none, or it is of another kind.
            Unavailable: the catalogue can't be reached.
        """
        ...


class Embedder(Protocol):
    """Makes vectors, and orders texts by a query."""

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        task: Task,
        caller: Caller,
        dimensions: int | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Embedded:
        """Embeds texts, none of them empty.

        Raises:
            ContextLengthExceeded: a text is too long; `field` names it, as `inputs[3]…`.
            Unavailable: the service can't be reached.
        """
        ...

    async def rerank(
        self,
        model: str,
        query: str,
        documents: Sequence[str],
        *,
        caller: Caller,
        priority: Priority = Priority.NORMAL,
    ) -> Ranked:
        """Scores documents, none of them empty; what is too long counts by its beginning."""
        ...

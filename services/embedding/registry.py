"""The models that this process serves."""

import contextlib
import hashlib
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from services.embedding.batching import Batcher
from services.embedding.engine import Encoder, EncoderInfo
from services.errors import DomainError, ModelNotFound, ModelNotReady, Unavailable
from services.serving import registry
from services.serving.models import ModelKind, Served

KINDS = frozenset({ModelKind.EMBEDDING, ModelKind.RERANK})
"""Kinds that this service serves."""


@runtime_checkable
class MayBeLost(Protocol):
    """An encoder that runs elsewhere, and may be gone there."""

    async def lost(self) -> DomainError:
        """Waits until it is gone for good; returns why. It is then to be loaded anew."""
        ...


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An engine and the queue before it."""

    encoder: Encoder
    batcher: Batcher
    dimensions: int
    """Length of vectors where a request names none; 0 for a cross-encoder."""

    async def probe(self) -> None:
        """Runs one real forward pass."""
        await self.encoder.probe()

    async def close(self) -> None:
        """Fails what waits and runs, and frees the device."""
        try:
            await self.batcher.close()
        finally:
            await self.encoder.close()


@dataclass(frozen=True, slots=True)
class DistantModel(LoadedModel):
    """One whose engine runs elsewhere, where it may be lost."""

    distant: MayBeLost
    """The engine."""

    async def lost(self) -> DomainError:
        """Waits until it is gone there; returns why."""
        return await self.distant.lost()


@dataclass(eq=False, slots=True)
class ServedModel(Served[LoadedModel]):
    """A loaded revision, and what its answers say of it."""

    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        info = self.info
        parts = "\0".join((self.revision, info.name, info.build, info.dtype))
        self.fingerprint = "fp_" + hashlib.sha256(parts.encode()).hexdigest()[:10]

    @property
    def info(self) -> EncoderInfo:
        """What its engine is."""
        return self.loaded.encoder.info

    @contextlib.contextmanager
    def serving(self) -> Generator[Batcher]:
        """Counts a call in, gives it a place in the queue, and counts it out."""
        batcher = self.loaded.batcher
        batcher.most_inputs = self.settings.max_batch_size or 0  # may change while it serves
        self.acquire()
        try:
            with batcher.place():
                yield batcher
        finally:
            self.release()


class Registry(registry.Registry[ServedModel]):
    """Finds the model that a request names."""

    def __init__(self) -> None:
        super().__init__(KINDS, "it makes no vectors and reranks nothing")

    def for_reranking(self) -> ServedModel:
        """Returns the model that reranks where none is named: the first cross-encoder that serves,
        else the first embedding model; by their IDs.

        Raises:
            ModelNotFound: there is neither.
            ModelNotReady: none of them serves.
            Unavailable: the catalogue has not been heard of yet.
        """
        served = self.visible()
        for kind in (ModelKind.RERANK, ModelKind.EMBEDDING):
            for id in sorted(served):
                if served[id].kind is kind:
                    return served[id]
        if missing := self.missing():
            names = ", ".join(sorted(f"`{known.id}`" for known in missing))
            raise ModelNotReady(
                f"No model that reranks is ready: {names} does not serve yet.",
                field="model",
                retry_after_s=registry.RETRY_AFTER_S,
            )
        if not self._told:
            raise Unavailable(
                "The model service has not answered yet. Try again in a moment.",
                retry_after_s=registry.RETRY_AFTER_S,
            )
        raise ModelNotFound(
            "No model that reranks is deployed: deploy one of the kind rerank or embedding.",
            field="model",
        )

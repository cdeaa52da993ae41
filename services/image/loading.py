"""Loads what the catalogue wants with an engine of this service."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.errors import FailedPrecondition
from services.image.batching import Batcher
from services.image.engine import ImageModelLoader, ImageModelSpec
from services.image.memory import budget
from services.image.places import QueueLimits
from services.image.registry import DistantModel, LoadedModel, MayBeLost, ServedModel
from services.serving.catalogue import WantedModel
from services.serving.loading import Progress

Load = Callable[[ImageModelLoader, WantedModel, Path, Progress], Awaitable[ServedModel]]


@dataclass(frozen=True, slots=True)
class Serving:
    """How models are served."""

    limits: QueueLimits = field(default_factory=QueueLimits)
    memory_bytes: int = 0
    """Most that drawings of a model may take; 0 is most of what is free."""
    merges: bool = True
    """Whether images of several jobs are drawn together."""
    version: str = ""


def loading(serving: Serving) -> Load:
    """Returns what loads a model and puts a queue before it."""

    async def load(
        engine: ImageModelLoader, wanted: WantedModel, source: Path, progress: Progress
    ) -> ServedModel:
        key = wanted.load
        for name, given in (("context_length", key.context_length), ("dimensions", key.dimensions)):
            if given:
                raise FailedPrecondition(
                    f"An image model has no '{name}': leave it out of its deployment."
                )
        spec = ImageModelSpec(wanted.id, key.revision, source, key.dtype)
        model = await engine.load(spec, progress)
        free = budget(model, serving.memory_bytes)
        batcher = Batcher(model, limits=serving.limits, budget=free, merges=serving.merges)
        parts = (model, batcher, free)
        distant = isinstance(model, MayBeLost)
        loaded = DistantModel(*parts, model) if distant else LoadedModel(*parts)
        return ServedModel(
            wanted.id,
            wanted.kind,
            key.revision,
            loaded,
            wanted.settings,
            version=serving.version,
        )

    return load

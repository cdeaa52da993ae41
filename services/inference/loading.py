"""Loads what the catalogue wants with an engine of this service."""

from pathlib import Path

from services.errors import FailedPrecondition
from services.inference.engine import EngineLoader, ModelSpec
from services.inference.registry import AnyServed, ServedModel, ServedTensors
from services.inference.tensor_engine import TensorEngineLoader, TensorModelSpec
from services.serving.catalogue import ModelLoader, WantedModel
from services.serving.loading import Progress
from services.serving.models import ModelKind


async def load(
    engine: EngineLoader, wanted: WantedModel, source: Path, progress: Progress
) -> ServedModel:
    """Loads a text model from its folder."""
    key = wanted.load
    spec = ModelSpec(
        model=wanted.id,
        revision=key.revision,
        source=source,
        context_length=key.context_length,
        dtype=key.dtype,
        max_batch_size=wanted.settings.max_batch_size or 0,
    )
    loaded = await engine.load(spec, progress)
    return ServedModel(wanted.id, wanted.kind, key.revision, loaded, wanted.settings)


async def load_tensors(
    engine: TensorEngineLoader, wanted: WantedModel, source: Path, progress: Progress
) -> ServedTensors:
    """Loads a tensor model from its folder.

    Raises:
        FailedPrecondition: it asks for what only other models can have.
    """
    key = wanted.load
    given = {"context_length": key.context_length, "dimensions": key.dimensions}
    named = [name for name, value in given.items() if value]
    if named:
        raise FailedPrecondition(
            f"A tensor model has no {', '.join(named)}: leave that out of its deployment."
        )
    loaded = await engine.load(TensorModelSpec(wanted.id, source, key.dtype), progress)
    return ServedTensors(wanted.id, wanted.kind, key.revision, loaded, wanted.settings)


class LoadingByKind:
    """A `ModelLoader` that leaves tensor models to one loader, and all others to another."""

    def __init__(self, text: ModelLoader[ServedModel], tensors: ModelLoader[ServedTensors]) -> None:
        self._text = text
        self._tensors = tensors

    async def load(self, wanted: WantedModel, progress: Progress) -> AnyServed:
        """Loads a model."""
        if wanted.kind is ModelKind.TENSOR:
            return await self._tensors.load(wanted, progress)
        return await self._text.load(wanted, progress)

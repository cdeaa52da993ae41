"""Loads what the catalogue wants with an engine of this service."""

from pathlib import Path

from services.inference.engine import EngineLoader, ModelSpec
from services.inference.registry import ServedModel
from services.serving.catalogue import WantedModel
from services.serving.loading import Progress


async def load(
    engine: EngineLoader, wanted: WantedModel, source: Path, progress: Progress
) -> ServedModel:
    """Loads a model from its folder."""
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

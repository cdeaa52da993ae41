"""Loads what the catalogue wants with an engine of this service."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from services.embedding.batching import Batcher, Limits
from services.embedding.engine import EncoderInfo, EncoderLoader, EncoderSpec
from services.embedding.registry import DistantModel, LoadedModel, MayBeLost, ServedModel
from services.errors import FailedPrecondition
from services.serving.catalogue import WantedModel
from services.serving.loading import Progress
from services.serving.models import ModelKind

Load = Callable[[EncoderLoader, WantedModel, Path, Progress], Awaitable[ServedModel]]


def loading(limits: Limits) -> Load:
    """Returns what loads a model and puts a queue with these bounds before it."""

    async def load(
        engine: EncoderLoader, wanted: WantedModel, source: Path, progress: Progress
    ) -> ServedModel:
        key = wanted.load
        spec = EncoderSpec(
            model=wanted.id,
            revision=key.revision,
            source=source,
            context_length=key.context_length,
            dtype=key.dtype,
            scores_pairs=wanted.kind is ModelKind.RERANK,
        )
        encoder = await engine.load(spec, progress)
        try:
            dimensions = vector_length(encoder.info, key.dimensions)
        except FailedPrecondition:
            await encoder.close()
            raise
        parts = (encoder, Batcher(encoder, limits), dimensions)
        distant = isinstance(encoder, MayBeLost)
        loaded = DistantModel(*parts, encoder) if distant else LoadedModel(*parts)
        return ServedModel(wanted.id, wanted.kind, key.revision, loaded, wanted.settings)

    return load


def vector_length(info: EncoderInfo, asked: int) -> int:
    """Returns the length of vectors that a deployment asks for; 0 asks for the model's own.

    Raises `FailedPrecondition` where the model can't have it.
    """
    if not asked or asked == info.dimensions:
        return info.dimensions
    if info.scores_pairs:
        raise FailedPrecondition(
            "A cross-encoder makes no vectors: leave 'dimensions' out of its deployment."
        )
    if asked > info.dimensions:
        raise FailedPrecondition(
            f"Its vectors have {info.dimensions} dimensions, not {asked}: leave 'dimensions' out "
            f"of its deployment."
        )
    if not info.shortening:
        raise FailedPrecondition(
            f"Its vectors have {info.dimensions} dimensions, and it wasn't trained so that they "
            f"can be shortened to {asked}: leave 'dimensions' out of its deployment."
        )
    return asked

"""What EmbeddingService tells the catalogue of its models."""

from penstock.model.v1 import model_pb2 as pb

from services.embedding.registry import ServedModel


def describe(served: ServedModel, observation: pb.Observation) -> None:
    """Writes what the catalogue tells of a served model."""
    info = served.info
    observation.capabilities.CopyFrom(
        pb.Capabilities(
            context_length=info.context_length,
            dimensions=served.loaded.dimensions,
            shortening=info.shortening,
        )
    )
    observation.parameter_count = info.parameter_count

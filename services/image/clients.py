"""What ImageService tells the catalogue of its models."""

from penstock.model.v1 import model_pb2 as pb

from services.image.engine import Mode
from services.image.registry import ServedModel


def describe(served: ServedModel, observation: pb.Observation) -> None:
    """Writes what the catalogue tells of a served model."""
    takes_images = {Mode.IMAGE, Mode.INPAINT} <= served.info.modes
    observation.capabilities.CopyFrom(
        pb.Capabilities(seed=True, image_input=takes_images, image_to_image=takes_images)
    )
    observation.parameter_count = served.info.parameter_count

"""What a python model in Triton is told of itself when it starts. It runs there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.errors import FailedPrecondition


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a model."""

    name: str
    version: str
    device: str
    """`cpu`, or `cuda:<n>`."""
    given: Mapping[str, str]
    """The parameters of its configuration."""
    weights: Path


def instance_of(args: Mapping[str, str], folder: Path) -> Instance:
    """Reads what Triton gives to `initialize`.

    Args:
        args: that.
        folder: the version's, with model.py.

    Raises:
        FailedPrecondition: the weights are not where the configuration says.
    """
    told = json.loads(args["model_config"])["parameters"]
    given = {name: str(value["string_value"]) for name, value in told.items()}
    weights = folder / given["weights"]
    if not weights.is_dir():
        raise FailedPrecondition(f"The folder {weights} does not exist on Triton's machine.")
    gpu = args["model_instance_kind"] == "GPU"
    return Instance(
        args["model_name"],
        args["model_version"],
        f"cuda:{args['model_instance_device_id']}" if gpu else "cpu",
        given,
        weights,
    )

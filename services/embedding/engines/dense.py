"""What sentence-transformers may put after pooling: linear layers, and scaling to length 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors import safe_open
from torch import Tensor

from services.embedding.engines.sentence_files import After, DenseFolder, Normalizing
from services.errors import FailedPrecondition
from services.weights.folder import find_weights, read_json

_ACTIVATIONS: dict[str, Any] = {
    "Identity": torch.nn.Identity(),
    "Tanh": torch.nn.Tanh(),
    "ReLU": torch.nn.ReLU(),
    "GELU": torch.nn.GELU(),
    "SiLU": torch.nn.SiLU(),
    "Sigmoid": torch.nn.Sigmoid(),
}


class Dense:
    """A linear layer with an activation, in float32.

    Raises:
        FailedPrecondition: its folder is broken, or says something that is not computed here.
    """

    def __init__(self, folder: DenseFolder, device: torch.device) -> None:
        config = read_json(folder.path / "config.json")
        name = str(config.get("activation_function") or "torch.nn.modules.linear.Identity")
        kind = name.rsplit(".", 1)[-1]
        if kind not in _ACTIVATIONS or not name.startswith("torch.nn."):
            raise FailedPrecondition(
                f"The Dense part's activation “{name}” is not known here: it has to be one of "
                f"torch's {', '.join(_ACTIVATIONS)}."
            )
        if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
            raise FailedPrecondition(
                "The Dense part reads something else than the pooled vector, which this engine "
                "doesn't compute: deploy a model of one vector a text."
            )
        self.files = find_weights(folder.path)
        tensors = {name: x for file in self.files for name, x in _read(file).items()}
        wanted = {"linear.weight"} | ({"linear.bias"} if config.get("bias", True) else set[str]())
        residual = bool(config.get("use_residual"))
        shape = (config.get("out_features"), config.get("in_features"))
        weight = tensors.get("linear.weight")
        if residual and shape[0] != shape[1]:
            wanted |= {"residual.weight"}
        if weight is None or tensors.keys() != wanted or tuple(weight.shape) != shape:
            raise FailedPrecondition(
                "The Dense part's weights don't fit its config.json: copy its folder again."
            )
        self._weight = weight.float().to(device)
        bias = tensors.get("linear.bias")
        self._bias = None if bias is None else bias.float().to(device)
        across = tensors.get("residual.weight")
        self._across = None if across is None else across.float().to(device)
        self._residual = residual
        self._activation = _ACTIVATIONS[kind]
        self.outputs, self.inputs = self._weight.shape

    def __call__(self, vectors: Tensor) -> Tensor:
        """Projects `[inputs, width]`."""
        out: Tensor = self._activation(F.linear(vectors, self._weight, self._bias))
        if self._residual:
            out = out + (vectors if self._across is None else F.linear(vectors, self._across))
        return out


def _read(file: Path) -> dict[str, Tensor]:
    with cast("Any", safe_open)(str(file), "pt") as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


class Finish:
    """Everything after pooling.

    Args:
        after: what the files say.
        width: of the pooled vectors.
        device: where they are.

    Raises:
        FailedPrecondition: a layer is broken or does not fit the one before.
    """

    def __init__(self, after: Sequence[After], width: int, device: torch.device) -> None:
        self.normalizes = bool(after) and isinstance(after[-1], Normalizing)
        self._steps: list[Dense | None] = []
        self.dimensions = width
        for part in after[:-1] if self.normalizes else after:
            if isinstance(part, Normalizing):
                self._steps.append(None)
                continue
            dense = Dense(part, device)
            if dense.inputs != self.dimensions:
                raise FailedPrecondition(
                    f"The Dense part takes vectors of {dense.inputs} numbers, and those before it "
                    f"have {self.dimensions}: copy the whole folder again."
                )
            self.dimensions = dense.outputs
            self._steps.append(dense)
        self.files = [file for step in self._steps if step for file in step.files]

    def __call__(self, vectors: Tensor, *, normalize: bool) -> Tensor:
        """Finishes `[inputs, width]`, float32."""
        for step in self._steps:
            vectors = F.normalize(vectors, dim=-1) if step is None else step(vectors)
        return F.normalize(vectors, dim=-1) if normalize else vectors

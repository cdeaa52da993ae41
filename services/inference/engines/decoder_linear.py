"""Linear layers of the compact decoder.

One matrix may hold several of the model's own (query, key and value), so that a layer is a few
large kernels. On a CPU weights are kept in the blocked form that its matrix kernels want: measured
on bfloat16 with AMX, 0.55 to 0.75 of the time of plain weights for 1 to 32 rows.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from services.inference.engines.decoder_fp8 import Fp8Matrix, round_to_fp8
from services.inference.engines.decoder_int8 import Int8Matrix, round_to_int8
from services.inference.engines.decoder_lora import Adapters

PACKED_FOR_ROWS = 8
"""Rows that the blocked form is made for; others work too."""

_MKLDNN: Any = torch.ops.mkldnn
_POINTWISE = {  # our name → attribute and algorithm of the kernel's own activation
    "none": ("none", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


class Form(Enum):
    """How the weights of a projection are kept."""

    PLAIN = "plain"
    BLOCKED = "blocked"
    """As the matrix kernels of a CPU want them; for weights that `packs` is true of."""
    FP8 = "fp8"
    """In eight bits, for GPUs."""
    INT8 = "int8"
    """In eight bits, for processors."""


EIGHT_BITS = {Form.FP8: round_to_fp8, Form.INT8: round_to_int8}
"""What gives each number of a matrix the value that it has in eight bits."""


@dataclass(frozen=True, slots=True)
class Source:
    """A part of a projection: rows of one of the model's own linear layers."""

    path: str
    """Path of the module in transformers' model, by which adapters name it too."""
    outputs: int
    """Outputs of that module."""
    rows: slice | Tensor | None = None
    """Those that belong to the part, in its order. None: all."""

    def take(self, states: Tensor) -> Tensor:
        """The rows of a tensor that has one for each output of the module."""
        return states if self.rows is None else states[self.rows]


class Projection:
    """A linear layer of one or more sources, one after another.

    Args:
        weight: `[outputs, inputs]`.
        bias: `[outputs]`.
        sources: where the outputs come from, in their order, with their widths.
        form: how the weights are kept.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        sources: tuple[tuple[Source, int], ...],
        *,
        form: Form,
    ) -> None:
        self.outputs, self.inputs = weight.shape
        self.sources = sources
        self.form = form
        self.adapters: Adapters | None = None
        self._bias = bias
        self._weight: Tensor | Fp8Matrix | Int8Matrix = weight
        if form is Form.BLOCKED:
            self._weight = cast("Tensor", _MKLDNN._reorder_linear_weight(weight, PACKED_FOR_ROWS))
        elif form is Form.FP8:
            self._weight = Fp8Matrix(weight)
        elif form is Form.INT8:
            self._weight = Int8Matrix(weight)

    def __call__(self, states: Tensor) -> Tensor:
        """Projects `[…, inputs]` to `[…, outputs]`."""
        projected = self._base(states)
        if self.adapters is not None and self.adapters.active:
            projected = self.adapters.add(projected, states)
        return projected

    def narrow(self) -> None:
        """Multiplies in eight bits from now on, where weights and device do."""
        if isinstance(self._weight, Fp8Matrix):
            self._weight.narrow = self._weight.narrows

    def activated(self, states: Tensor, activation: str) -> Tensor:
        """Projects, then applies an activation, in one kernel where that exists."""
        if self.form is Form.BLOCKED and not self._adapted:
            attribute, algorithm = _POINTWISE[activation]
            return _MKLDNN._linear_pointwise(
                states, self._weight, self._bias, attribute, [], algorithm
            )
        return activate(self(states), activation)

    def times(self, states: Tensor, factor: Tensor) -> Tensor:
        """Projects, then multiplies by a tensor of the result's shape."""
        if self.form is Form.BLOCKED and not self._adapted:
            return _MKLDNN._linear_pointwise.binary(states, factor, self._weight, self._bias, "mul")
        return self(states) * factor

    @property
    def _adapted(self) -> bool:
        return self.adapters is not None and self.adapters.active

    def _base(self, states: Tensor) -> Tensor:
        if self.form is Form.BLOCKED:
            return _MKLDNN._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        if isinstance(self._weight, Tensor):
            return F.linear(states, self._weight, self._bias)
        return self._weight.linear(states, self._bias)


def packs(weight: Tensor) -> bool:
    """Whether weights of this device and number type have a blocked form here."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return cast("bool", _MKLDNN._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def fastest_form(weight: Tensor) -> Form:
    """The form that loses nothing and is read fastest where these weights are."""
    return Form.BLOCKED if packs(weight) else Form.PLAIN


def activate(states: Tensor, activation: str) -> Tensor:
    """Applies an activation by our name."""
    match activation:
        case "silu":
            return F.silu(states)
        case "gelu":
            return F.gelu(states)
        case "gelu_tanh":
            return F.gelu(states, approximate="tanh")
        case "relu":
            return F.relu(states)
        case _:
            raise ValueError(f"unknown activation {activation}")

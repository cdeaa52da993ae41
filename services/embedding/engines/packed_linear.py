"""Linear layers of the packed encoder.

On a CPU, bfloat16 weights are kept in the blocked form that its matrix kernels want: measured with
AMX, 0.78 of the time of plain weights, and activation or sum come with the product. float32 gains
nothing by it.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

PACKED_FOR_ROWS = 8
"""Rows that the blocked form is made for; others work as well."""

_MKLDNN: Any = torch.ops.mkldnn
_POINTWISE = {  # our name → attribute and algorithm of the kernel's own activation
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}


class Linear:
    """`[…, inputs]` to `[…, outputs]`.

    Args:
        weight: `[outputs, inputs]`.
        bias: `[outputs]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed = packs(weight)
        self._bias = bias
        self._weight: Tensor = (
            _MKLDNN._reorder_linear_weight(weight.contiguous(), PACKED_FOR_ROWS)
            if self._packed
            else weight.contiguous()
        )

    def __call__(self, states: Tensor) -> Tensor:
        """Projects."""
        if self._packed:
            return _MKLDNN._linear_pointwise(states, self._weight, self._bias, "none", [], "")
        return F.linear(states, self._weight, self._bias)

    def activated(self, states: Tensor, activation: str) -> Tensor:
        """Projects, then applies an activation."""
        if self._packed:
            attribute, algorithm = _POINTWISE[activation]
            return _MKLDNN._linear_pointwise(
                states, self._weight, self._bias, attribute, [], algorithm
            )
        return activate(self(states), activation)

    def plus(self, states: Tensor, other: Tensor) -> Tensor:
        """Projects, then adds a tensor of the result's shape."""
        if self._packed:
            return _MKLDNN._linear_pointwise.binary(states, other, self._weight, self._bias, "add")
        return self(states).add_(other)

    def times(self, states: Tensor, factor: Tensor) -> Tensor:
        """Projects, then multiplies by a tensor of the result's shape."""
        if self._packed:
            return _MKLDNN._linear_pointwise.binary(states, factor, self._weight, self._bias, "mul")
        return self(states).mul_(factor)


def packs(weight: Tensor) -> bool:
    """Whether weights of this device and number type gain by a blocked form here."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and cast("bool", _MKLDNN._is_mkldnn_bf16_supported())
    )


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

"""Weights in eight bits for processors: whole numbers with a scale for each output.

Only the weights are rounded. A few rows are multiplied by a kernel that reads the eight bits as
they are, with states in bfloat16: a processor that waits for memory waits less. For more rows the
weights are made whole first, which saves memory only.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

LARGEST = 127
SMALLEST = 1e-12
"""Largest number of a row that is taken for zero."""
FEW_ROWS = 16
"""Rows up to which the kernel is faster than making the weights whole; measured with AVX2."""
INPUTS_MULTIPLE = 32
"""Of what the kernel reads in one go: other sizes make it read beyond its inputs."""

_ATEN: Any = torch.ops.aten


class Int8Matrix:
    """The weights of a linear layer in eight bits.

    Args:
        weight: `[outputs, inputs]`, of any number type; it is not kept.
    """

    def __init__(self, weight: Tensor) -> None:
        self._values, scales = to_int8(weight)
        self._scales = scales[:, 0].contiguous()  # [outputs]

    @property
    def nbytes(self) -> int:
        """Bytes of memory, scales included."""
        return self._values.nbytes + self._scales.nbytes

    def linear(self, states: Tensor, bias: Tensor | None) -> Tensor:
        """Projects `[…, inputs]` to `[…, outputs]`."""
        flat = states.reshape(-1, states.shape[-1])
        if len(flat) <= FEW_ROWS and flat.shape[-1] % INPUTS_MULTIPLE == 0:
            narrow = flat.to(torch.bfloat16).contiguous()
            projected = _ATEN._weight_int8pack_mm(narrow, self._values, self._scales)
            projected = cast("Tensor", projected).to(states.dtype)
        else:
            projected = F.linear(flat, self._values.to(states.dtype))
            projected = projected * self._scales.to(states.dtype)
        projected = projected.view(*states.shape[:-1], -1)
        return projected if bias is None else projected + bias


def to_int8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in eight bits and the scales of its rows, `[rows, 1]` in bfloat16.

    Scales are rounded before they are used, so that only the eight bits lose anything.
    """
    wide = matrix.float()
    largest = wide.abs().amax(1, keepdim=True).clamp(min=SMALLEST)
    scales = (largest / LARGEST).to(torch.bfloat16)
    values = (wide / scales.float()).round().clamp(-LARGEST, LARGEST)
    return values.to(torch.int8), scales


def round_to_int8(matrix: Tensor) -> None:
    """Replaces each number of a matrix by the one that it is in eight bits."""
    values, scales = to_int8(matrix)
    matrix.copy_(values.float() * scales.float())

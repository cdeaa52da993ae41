"""Weights in eight bits: floating-point numbers with a scale for each output.

A device that multiplies such numbers gets the states in eight bits too, with a scale for each
token; that loses more, and is faster than sixteen bits. Others get the weights back in the states'
own type for each product, which only saves memory.
"""

import logging
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_log = logging.getLogger(__name__)

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
SMALLEST = 1e-12
"""Largest number of a row that is taken for zero."""
MULTIPLE = 16
"""Sizes that matrices in eight bits are multiplied in on a GPU."""
FIRST_CAPABILITY = (8, 9)
"""Of GPUs whose tensor cores multiply numbers of eight bits."""

_ATEN: Any = torch.ops.aten


class Fp8Matrix:
    """The weights of a linear layer in eight bits.

    Args:
        weight: `[outputs, inputs]`, of any number type; it is not kept.
    """

    def __init__(self, weight: Tensor) -> None:
        self.narrow = False
        """Whether states are rounded to eight bits too. Needs a device that multiplies them."""
        self._values, scales = to_fp8(weight)
        self._scales = scales.t()  # [1, outputs]

    @property
    def narrows(self) -> bool:
        """Whether the device multiplies these weights in eight bits."""
        fits = all(size % MULTIPLE == 0 for size in self._values.shape)
        return fits and multiplies_fp8(self._values.device)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, scales included."""
        return self._values.nbytes + self._scales.nbytes

    def linear(self, states: Tensor, bias: Tensor | None) -> Tensor:
        """Projects `[…, inputs]` to `[…, outputs]`."""
        if not self.narrow:
            projected = F.linear(states, self._values.to(states.dtype)) * self._scales
            return (projected if bias is None else projected + bias).to(states.dtype)
        flat = states.reshape(-1, states.shape[-1])
        largest = flat.abs().amax(1, keepdim=True)
        scales = largest.float().clamp(min=SMALLEST) / LARGEST
        projected = _ATEN._scaled_mm(
            (flat / scales).to(FP8),
            self._values.t(),
            scale_a=scales,
            scale_b=self._scales,
            bias=bias,
            out_dtype=states.dtype,
        )
        return cast("Tensor", projected).view(*states.shape[:-1], -1)


def to_fp8(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in eight bits and the scales of its rows, `[rows, 1]` in float32.

    Scales are powers of two: only the eight bits round, and what is rounded already stays the same.
    """
    wide = matrix.float()
    largest = wide.abs().amax(1, keepdim=True).clamp(min=SMALLEST)
    scales = torch.ldexp(torch.ones_like(largest), torch.frexp(largest / LARGEST).exponent)
    return (wide / scales).to(FP8), scales


def round_to_fp8(matrix: Tensor) -> None:
    """Replaces each number of a matrix by the one that it is in eight bits."""
    values, scales = to_fp8(matrix)
    matrix.copy_(values.float() * scales)


@cache
def multiplies_fp8(device: torch.device) -> bool:
    """Whether a device multiplies matrices in eight bits with a scale for each row, and gains."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < FIRST_CAPABILITY:
        return False
    matrix = Fp8Matrix(torch.ones(MULTIPLE, MULTIPLE, device=device))
    matrix.narrow = True
    try:
        matrix.linear(torch.ones(1, MULTIPLE, device=device, dtype=torch.bfloat16), None)
    except RuntimeError as error:  # a GPU that this build of torch has no such kernel for
        _log.warning("fp8 weights are multiplied in bfloat16 on %s: %s", device, error)
        return False
    return True

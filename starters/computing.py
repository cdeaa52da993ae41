"""What the recipes need of the machine: its fast number type, kept memory, and Muon in both."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor

from services.weights.processor import choose_dtype

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_ITERATIONS: Final = 5
_TINY: Final = 1e-7


def fast_dtype(device: torch.device | None = None) -> torch.dtype:
    """bf16 where the device is made for it, else fp32."""
    return choose_dtype("auto", device or torch.device("cpu"))


def fast() -> torch.autocast:
    """Calculates in bf16 on a processor that is made for it, elsewhere in fp32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=fast_dtype() == torch.bfloat16)


def keep_memory() -> None:
    """Tells glibc to keep freed memory: fresh pages for each large tensor cost time."""
    if sys.platform == "linux":
        allocator = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**27)):  # mmap max, trim, top pad
            allocator.mallopt(option, value)


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix [m, n] with all its singular values near one, found by Newton and Schulz's
    iteration with Jordan's coefficients (https://kellerjordan.github.io/posts/muon/)."""
    a, b, c = _COEFFICIENTS
    turned = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if turned else matrix).to(dtype)
    found = found / found.norm().clamp(min=_TINY)
    for _ in range(_ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found.T if turned else found).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon, but in the number type that the device is made for.

    torch's always calculates in bf16, which a processor without it does fifty times slower.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        """Takes matrices, or groups of them."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Moves every matrix that has a gradient."""
        if closure is not None:
            raise TypeError("Muon calculates no losses: give it no closure.")
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group["lr"], group["momentum"], group["weight_decay"])

    def _move(self, matrix: Tensor, rate: float, momentum: float, decay: float) -> None:
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        kept = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        moved = orthogonal(matrix.grad.lerp(kept, momentum), fast_dtype(matrix.device))
        rows, columns = matrix.shape
        matrix.mul_(1 - rate * decay).add_(moved, alpha=-rate * max(1.0, rows / columns) ** 0.5)

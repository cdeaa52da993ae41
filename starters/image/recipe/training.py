"""What the trainings need: a rate that falls, an average of the weights, the optimizer."""

from __future__ import annotations

from math import cos, pi
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from starters.computing import Muon

M = TypeVar("M", bound=nn.Module)


def rate(step: int, steps: int, *, warm: int, floor: float = 0.01) -> float:
    """The share of the peak rate at a step: a short rise, then half a cosine down."""
    if step < warm:
        return (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, steps - warm))
    return floor + (1 - floor) * (1 + cos(pi * done)) / 2


class Average:
    """A moving average of a model's weights, which draws better than the last weights do."""

    def __init__(self, model: nn.Module, keep: float) -> None:
        self._model, self._keep = model, keep
        self.weights: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves towards the model's weights: fast at first, when they are still far off."""
        share = 1 - min(self._keep, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.weights.values()), list(self._model.state_dict().values()), share
        )

    def into(self, model: M) -> M:
        """Loads the average into a model of the same kind."""
        model.load_state_dict(self.weights)
        return model


class Optimizer:
    """Muon for matrices and convolutions inside the layers, AdamW for all the rest."""

    def __init__(
        self,
        model: nn.Module,
        edges: tuple[str, ...],
        rates: tuple[float, float],
        *,
        new: tuple[str, ...] = ("",),
        old_share: float = 1.0,
    ) -> None:
        """Takes the highest rates of both. Weights whose names don't begin with one of `new` have
        learnt before, and move at a share of them."""
        self._inner: list[tuple[nn.Parameter, nn.Parameter]] = []
        matrices: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        rest: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, weight in model.named_parameters():
            fresh = name.startswith(new)
            if weight.ndim < 2 or any(edge in name for edge in edges):
                rest[fresh].append(weight)
                continue
            flat = nn.Parameter(_flat(weight.data))
            self._inner.append((weight, flat))
            matrices[fresh].append(flat)
        shares = {True: 1.0, False: old_share}
        groups = [
            [{"params": found, "share": shares[fresh]} for fresh, found in kind.items() if found]
            for kind in (matrices, rest)
        ]
        self._peaks = rates
        self._parts: list[torch.optim.Optimizer] = [
            Muon(groups[0], rates[0], weight_decay=0.01),
            torch.optim.AdamW(
                groups[1], rates[1], betas=(0.9, 0.98), weight_decay=0.01, fused=True
            ),
        ]
        self._model = model

    def step(self, share: float) -> None:
        """Moves all weights at a share of the peak rates and forgets the gradients."""
        for peak, part in zip(self._peaks, self._parts, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * share * group["share"]
        for weight, flat in self._inner:
            flat.grad = None if weight.grad is None else _flat(weight.grad)
        for part in self._parts:
            part.step()
        self._model.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """What a checkpoint keeps."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, kept: list[dict[str, Any]]) -> None:
        """Takes up what a checkpoint kept."""
        for part, state in zip(self._parts, kept, strict=True):
            part.load_state_dict(state)


def _flat(weight: Tensor) -> Tensor:
    """A weight as a matrix; of a convolution in channels_last order it is a view."""
    return weight if weight.ndim == 2 else weight.permute(0, 2, 3, 1).flatten(1)

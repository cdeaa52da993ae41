"""Follows a scheduler through one run, and tells what the picture will be."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.image.engines.diffusers_schedules import Form


@dataclass(frozen=True, slots=True)
class _Point:
    """What the denoiser said of a sample."""

    sample: Tensor
    output: Tensor
    level: Tensor
    """Sigma, or with ALPHA the alpha product."""


class Walk:
    """A scheduler whose steps are given more than the pipeline gives them, and are watched."""

    def __init__(self, scheduler: Any, form: Form, more: dict[str, Any]) -> None:
        """Takes hold of a fresh scheduler.

        `more` are arguments of its steps.
        """
        self.scheduler = scheduler
        self.timesteps: Tensor = torch.empty(0)
        """Those of this run, once the pipeline has asked for them."""
        self._form = form
        self._more = more
        self._point: _Point | None = None
        self._step: Any = scheduler.step

        # The pipelines read the signature, so it has to stay.
        @functools.wraps(scheduler.step)
        def step(*args: Any, **kwargs: Any) -> Any:
            return self._watched(*args, **kwargs)

        scheduler.step = step

    def start(self, skipped: int) -> Tensor:
        """The timesteps that are left when so many whole steps are skipped."""
        skipped = skipped * self.scheduler.order
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skipped)
        self.timesteps = self.scheduler.timesteps[skipped:]
        return self.timesteps

    @property
    def between(self) -> bool:
        """Whether the sampler is amid a step of two evaluations."""
        return getattr(self.scheduler, "state_in_first_order", True) is False

    def noised(self, picture: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """A picture with the noise of a timestep."""
        if self._form is Form.FLOW and hasattr(self.scheduler, "scale_noise"):
            return self.scheduler.scale_noise(picture, timestep, noise)
        return self.scheduler.add_noise(picture, noise, timestep)

    def clean(self, row: int) -> Tensor | None:
        """One row as it will be, as far as the denoiser can tell; None before the first step.

        Of shape (1, …).
        """
        point = self._point
        if point is None:
            return None
        sample, output = (part[row : row + 1].float() for part in (point.sample, point.output))
        level = point.level.to(sample)
        if self._form is Form.FLOW:
            return sample - level * output
        kind = self.scheduler.config.prediction_type
        if kind == "sample":
            return output
        if self._form is Form.SIGMA:
            if kind == "v_prediction":
                return sample / (level**2 + 1) - output * level / (level**2 + 1).sqrt()
            return sample - level * output
        share = level if self._form is Form.ALPHA else 1 / (level**2 + 1)
        alpha, sigma = share.sqrt(), (1 - share).sqrt()
        if kind == "v_prediction":
            return alpha * sample - sigma * output
        return (sample - sigma * output) / alpha

    def _watched(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        seen = not self.between
        kept = sample.clone() if seen else sample
        found = self._step(model_output, timestep, sample, *args, **{**kwargs, **self._more})
        if seen:
            self._point = _Point(kept, model_output, self._level(timestep))
        return found

    def _level(self, timestep: Any) -> Tensor:
        if self._form is Form.ALPHA:
            return self.scheduler.alphas_cumprod[int(timestep)]
        return self.scheduler.sigmas[self.scheduler.step_index - 1]

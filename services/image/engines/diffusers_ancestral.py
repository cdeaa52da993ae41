"""Euler's ancestral sampler with every schedule, eta and noise scale.

The one of diffusers has evenly spaced schedules only and takes all its noise. With their defaults
both give the same bytes.
"""

import copy
import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils import torch_utils
from torch import Tensor

_randn = cast("Any", torch_utils.randn_tensor)  # pyright: ignore[reportUnknownMemberType]
_CURVES = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


class EulerAncestralScheduler(EulerAncestralDiscreteScheduler):
    """Takes the schedules that diffusers gives to the sampler without noise."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(**_known(EulerAncestralDiscreteScheduler, config))
        curved = any(config.get(name) for name in _CURVES)
        self._spacing: Any = made(EulerDiscreteScheduler, config) if curved else None

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Spaces the steps."""
        super().set_timesteps(num_inference_steps, device)
        if self._spacing is not None:
            self._spacing.set_timesteps(num_inference_steps, device)
            self.sigmas: Tensor = self._spacing.sigmas
            self.timesteps: Tensor = self._spacing.timesteps

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]  (the loop asks for no object)
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
        eta: float = 1.0,
        s_noise: float = 1.0,
    ) -> Any:
        """Takes a step. `eta` is the share of noise in it, `s_noise` the noise's scale."""
        if eta == 1 and s_noise == 1:
            plain = cast("Any", super().step)  # pyright: ignore[reportUnknownMemberType]
            return plain(model_output, timestep, sample, generator, return_dict)
        own = cast("Any", self)
        if own.step_index is None:
            self._init_step_index(timestep)
        index = cast("int", own.step_index)
        sigma, following = self.sigmas[index], self.sigmas[index + 1]
        whole = sample.to(torch.float32)
        if own.config.prediction_type == "epsilon":
            clean = whole - sigma * model_output
        else:
            clean = model_output * (-sigma / (sigma**2 + 1) ** 0.5) + whole / (sigma**2 + 1)
        up = eta * (following**2 * (sigma**2 - following**2) / sigma**2) ** 0.5
        down = (following**2 - up**2) ** 0.5
        noise: Tensor = _randn(
            tuple(model_output.shape),
            generator=generator,
            device=model_output.device,
            dtype=model_output.dtype,
        )
        walked = whole + (whole - clean) / sigma * (down - sigma) + noise * up * s_noise
        own._step_index = index + 1
        return (walked.to(model_output.dtype), clean)


def made(kind: Any, config: Mapping[str, Any]) -> Any:
    """A fresh scheduler from what it knows of a config."""
    known = _known(kind, config).items()
    first = _first(kind, tuple((key, _hashable(value)) for key, value in known))
    # The configuration is frozen: it can't be copied, and needn't be.
    return copy.deepcopy(first, {id(first.config): first.config})


@lru_cache(maxsize=256)
def _first(kind: Any, known: tuple[tuple[str, Any], ...]) -> Any:
    """The one of a configuration that the others are copies of: some compute a thousand steps as
    they are made, which takes longer than to draw a small picture."""
    with torch.inference_mode(mode=False):  # its tensors are copied within and without
        return kind(**dict(known))


def _hashable(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _known(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    known = inspect.signature(kind.__init__).parameters
    return {key: value for key, value in config.items() if key in known}

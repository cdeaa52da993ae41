"""Follows one pass: keeps what is outside of the mask, and shows how it looks."""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from services.image.engine import Look, Plan
from services.image.engines.diffusers_machine import Coding, Machine
from services.image.engines.diffusers_starts import Start
from services.image.engines.diffusers_walk import Walk


class Watching:
    """Is called by a pipeline after each evaluation of the denoiser. It is a `Look`."""

    def __init__(
        self,
        machine: Machine,
        coding: Coding,
        walk: Walk,
        plan: Plan,
        start: Start,
        steps: int,
        told: Callable[[int, Look], None],
    ) -> None:
        """Takes what it follows.

        `told` is called with the steps done, once more for each evaluation within a step; it raises
        to end the pass.
        """
        self._machine = machine
        self._coding = coding
        self._walk = walk
        self._plan = plan
        self._start = start
        self._steps = steps
        self._told = told
        self._done = 0
        self._latents: Tensor | None = None
        self.noise = machine.pack(start.noise)
        """Packed, as the pipeline takes it."""
        self.begun = None if start.picture is None else machine.pack(start.picture)
        """The picture that it begins with, packed."""
        self._mask = None
        if start.mask is not None:
            mask = start.mask.expand(-1, machine.codec.channels, -1, -1)
            self._mask = machine.pack(mask)

    def __call__(
        self, pipeline: Any, index: int, _timestep: Any, given: dict[str, Any]
    ) -> dict[str, Any]:
        """What the pipeline goes on with."""
        latents: Tensor = given["latents"]
        if self._mask is not None and self.begun is not None and not self._walk.between:
            kept = self.begun
            if index + 1 < len(self._walk.timesteps):
                following = self._walk.timesteps[index + 1 : index + 2]
                kept = self._walk.noised(kept, self.noise, following)
            latents = (1 - self._mask) * kept + self._mask * latents
        self._latents = latents
        self._done = (index + 1) * self._steps // pipeline.num_timesteps
        self._told(self._done, self)
        return {"latents": latents}

    def preview(self, row: int) -> Image.Image:
        """A cheap picture of one drawing."""
        return self._machine.colours(self.clean(row))

    def picture(self, row: int) -> Image.Image:
        """One drawing, decoded as it is now."""
        return self._coding.decode(self.clean(row))

    def clean(self, row: int) -> Tensor:
        """Latents of one drawing as it will be, as far as can be told now; of shape (1, …)."""
        plan, start = self._plan, self._start
        assert self._latents is not None
        found = self._walk.clean(row) if self._done < self._steps else None
        if found is None:
            found = self._latents[row : row + 1]
        found = self._machine.unpack(found, plan.width, plan.height).float()
        if start.mask is not None and start.picture is not None:
            mask = start.mask[row : row + 1]
            found = found * mask + start.picture[row : row + 1] * (1 - mask)
        return found

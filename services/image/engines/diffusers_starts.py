"""What a pass begins with: noise, pictures, masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from services.image.engine import Drawing, Fill, Mode, Plan
from services.image.engines.diffusers_latents import (
    LATENT_UPSCALERS,
    PIXEL_UPSCALERS,
    first_noise,
    resized,
)
from services.image.engines.diffusers_machine import Coding, Machine

_GREY = (128, 128, 128)
_HALF = 128

Generators = Sequence[torch.Generator]


@dataclass(frozen=True, slots=True)
class Start:
    """Latents that are not packed, a row for each drawing."""

    noise: Tensor
    picture: Tensor | None = None
    mask: Tensor | None = None
    """1 is drawn anew."""
    beside: Tensor | None = None
    """Channels that the denoiser sees beside the latents."""


class Starts:
    """Makes the starts of one run."""

    def __init__(self, machine: Machine, coding: Coding, drawings: Sequence[Drawing]) -> None:
        self._machine = machine
        self._coding = coding
        self._drawings = drawings

    def first(self, plan: Plan, generators: Generators) -> Start:
        """That of the first pass."""
        rows, columns = self._shape(plan)
        pictures = [
            self._coding.encode(drawing.initial, generator, rows, columns)
            for drawing, generator in zip(self._drawings, generators, strict=True)
            if plan.mode is not Mode.TEXT and drawing.initial is not None
        ]
        noise = self._noise(generators, rows, columns)
        beside = self._beside(rows, columns)
        if not pictures:
            return Start(noise, beside=beside)
        noise = noise * plan.tuning.initial_noise_multiplier
        picture = torch.cat(pictures)
        if plan.mode is not Mode.INPAINT:
            return Start(noise, picture, beside=beside)
        masks = [drawing.mask for drawing in self._drawings]
        codec = self._machine.codec
        mask = torch.cat([codec.mask(m, rows, columns) for m in masks if m is not None])
        mask = mask.to(picture.device)
        if plan.fill is not Fill.PIXELS:
            under = noise if plan.fill is Fill.NOISE else torch.zeros_like(noise)
            picture = picture * (1 - mask) + under * mask
        # A denoiser that sees the mask needs no help in keeping what is outside of it.
        return Start(noise, picture, mask if beside is None else None, beside)

    def second(self, latents: Tensor, upscaler: str, plan: Plan, generators: Generators) -> Start:
        """That of the second pass, from what the first one left."""
        rows, columns = self._shape(plan)
        if upscaler in LATENT_UPSCALERS:
            picture = torch.cat([resized(r[None], rows, columns, upscaler) for r in latents])
        else:
            size, method = (plan.width, plan.height), PIXEL_UPSCALERS[upscaler]
            larger = [self._coding.decode(row[None]).resize(size, method) for row in latents]
            picture = torch.cat(
                [
                    self._coding.encode(image, generator, rows, columns)
                    for image, generator in zip(larger, generators, strict=True)
                ]
            )
        noise = self._noise(generators, rows, columns)
        return Start(noise, picture, beside=self._beside(rows, columns))

    def _shape(self, plan: Plan) -> tuple[int, int]:
        scale = self._machine.codec.scale
        return plan.height // scale, plan.width // scale

    def _noise(self, generators: Generators, rows: int, columns: int) -> Tensor:
        codec = self._machine.codec
        shape = (codec.channels, rows, columns)
        found = [
            first_noise(drawing, generator, shape, codec.scale)
            for drawing, generator in zip(self._drawings, generators, strict=True)
        ]
        return torch.cat(found).to(self._machine.device)

    def _beside(self, rows: int, columns: int) -> Tensor | None:
        """Mask and kept picture, for denoisers that were taught to see them."""
        machine, codec = self._machine, self._machine.codec
        if machine.pipelines.denoiser.config.in_channels != 2 * codec.channels + 1:
            return None
        found: list[Tensor] = []
        size = (columns * codec.scale, rows * codec.scale)
        for drawing in self._drawings:
            # All is to be drawn where there is no mask.
            mask = (drawing.mask or Image.new("L", size, 255)).convert("L").resize(size)
            kept = (drawing.initial or Image.new("RGB", size)).convert("RGB").resize(size)
            hidden = mask.point([255 * (value >= _HALF) for value in range(256)])
            kept = Image.composite(Image.new("RGB", size, _GREY), kept, hidden)
            small = codec.mask(mask, rows, columns).to(machine.device)
            seen = self._coding.encode(kept, None, rows, columns)
            found.append(torch.cat([small, seen], dim=1))
        return torch.cat(found)

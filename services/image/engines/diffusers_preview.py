"""Cheap pictures of latents: a linear map to colours, fitted to the model's own VAE."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from services.image.engines.diffusers_latents import Codec
from services.image.engines.latent_colours import ColourMap, painted

_SIDE = 12
"""Latents of a side of the pictures that it is fitted to."""
_PICTURES = 8


class Colours:
    """Maps each latent to a colour."""

    def __init__(self, codec: Codec) -> None:
        """Encodes smooth pictures of many colours, and finds the map that comes nearest."""
        generator = np.random.Generator(np.random.PCG64(0))
        latents: list[Tensor] = []
        colours: list[NDArray[np.float64]] = []
        for _ in range(_PICTURES):
            corners = generator.integers(0, 256, (3, 3, 3), dtype=np.uint8)
            small = Image.fromarray(corners).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
            side = _SIDE * codec.scale
            picture = small.resize((side, side), Image.Resampling.BICUBIC)
            latents.append(codec.encode(picture, None)[0].flatten(1).T.cpu())
            colours.append(np.asarray(small, np.float64).reshape(-1, 3) / 255)
        known = _with_one(torch.cat(latents).double()).numpy()
        wanted = np.concatenate(colours)
        self._map: ColourMap = np.asarray(np.linalg.lstsq(known, wanted, rcond=None)[0], np.float64)

    @property
    def table(self) -> ColourMap:
        """The map: a row for each channel, and one that is added."""
        return self._map

    def __call__(self, latents: Tensor) -> Image.Image:
        """A picture with one pixel for each latent. They are of shape (1, channels, …)."""
        return painted(latents[0].float().cpu().numpy(), self._map)


def _with_one(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)

"""How much memory a batch takes beside the weights: an estimate from the model's shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.image.engine import Plan

_BUFFERS = 6
"""Activations of a layer's size that live at the same time."""
_UNPACKED = 12
"""The same for a block of a transformer, whose inner layers are four times as wide."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What of a model decides how much memory its drawings take."""

    scale: int
    """Pixels of a side that one latent stands for."""
    itemsize: int
    """Bytes of a number."""
    levels: Sequence[int]
    """Channels of a UNet's levels; empty for a transformer."""
    inner: int
    """Width of a transformer."""
    token_latents: int
    """Latents that a transformer's token stands for."""
    vae_first: int
    """Channels of the VAE's layers at full size."""
    vae_widest: int


def memory_bytes(plan: Plan, count: int, shapes: Shapes) -> int:
    """About how many bytes a batch of so many drawings takes."""
    width, height = plan.width, plan.height
    if plan.hires is not None:
        width, height = max(width, plan.hires.width), max(height, plan.hires.height)
    pixels, guided = width * height, 2
    latents = pixels // shapes.scale**2
    if shapes.levels:
        wide = sum(channels * latents // 4**level for level, channels in enumerate(shapes.levels))
        denoising = wide * shapes.itemsize * _BUFFERS
    else:
        denoising = latents // shapes.token_latents * shapes.inner * shapes.itemsize * _UNPACKED
    # The VAE works at full size with its narrow layers, at half with the wider ones.
    decoding = pixels * max(shapes.vae_first, shapes.vae_widest // 4) * shapes.itemsize * _BUFFERS
    kept = pixels * 3 * (1 + 4)
    return max(denoising * guided * count, decoding) + kept * count

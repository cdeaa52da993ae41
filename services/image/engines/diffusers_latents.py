"""Between pictures and latents."""

from typing import Any, cast

import numpy as np
import torch
from diffusers.utils import torch_utils
from PIL import Image
from torch import Tensor
from torch.nn import functional

from services.image.engine import Drawing, Variation

_randn = cast("Any", torch_utils.randn_tensor)  # pyright: ignore[reportUnknownMemberType]
_tensor = cast("Any", torch.from_numpy)  # pyright: ignore[reportUnknownMemberType]

LATENT_UPSCALERS: dict[str, dict[str, Any]] = {
    "Latent": {"mode": "bilinear"},
    "Latent (antialiased)": {"mode": "bilinear", "antialias": True},
    "Latent (bicubic)": {"mode": "bicubic"},
    "Latent (bicubic antialiased)": {"mode": "bicubic", "antialias": True},
    "Latent (nearest)": {"mode": "nearest"},
    "Latent (nearest-exact)": {"mode": "nearest-exact"},
}
PIXEL_UPSCALERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}


class Codec:
    """Encodes and decodes with a model's VAE, one picture at a time."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._vae: Any = pipeline.vae
        self.scale: int = pipeline.vae_scale_factor
        """Pixels of a side that one latent stands for."""
        self.channels: int = self._vae.config.latent_channels

    def encode(self, picture: Image.Image, generator: torch.Generator | None) -> Tensor:
        """Latents of a picture, of shape (1, channels, rows, columns); its sides fit the scale."""
        vae = self._vae
        pixels = self._pipeline.image_processor.preprocess(picture.convert("RGB"))
        encoded = vae.encode(pixels.to(vae.device, vae.dtype))
        if hasattr(encoded, "latent_dist"):
            found = encoded.latent_dist.mean.float()
            if generator is not None:
                spread = encoded.latent_dist.std.float()
                found = found + spread * _randn(
                    tuple(found.shape), generator=generator, device=found.device
                )
        else:
            found = encoded.latents.float()
        mean, deviation = self._statistics(found)
        return (found - mean) * (self._vae.config.scaling_factor / deviation)

    def decode(self, latents: Tensor) -> Image.Image:
        """The picture of latents of one row."""
        vae = self._vae
        mean, deviation = self._statistics(latents)
        whole = latents.float().contiguous() * deviation / vae.config.scaling_factor + mean
        pixels = vae.decode(whole.to(vae.device, vae.dtype), return_dict=False)[0]
        return self._pipeline.image_processor.postprocess(pixels.float(), output_type="pil")[0]

    def mask(self, mask: Image.Image, rows: int, columns: int) -> Tensor:
        """A mask at the size of latents, in [0, 1]; of shape (1, 1, rows, columns)."""
        values: Tensor = _tensor(np.asarray(mask.convert("L"), np.float32) / 255)
        return functional.interpolate(values[None, None], (rows, columns), mode="area")

    def _statistics(self, like: Tensor) -> tuple[Any, Any]:
        config = self._vae.config
        mean, deviation = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and deviation is not None:
            parts = (torch.tensor(part).view(1, -1, 1, 1).to(like) for part in (mean, deviation))
            found = tuple(parts)
            return found[0], found[1]
        return config.get("shift_factor") or 0.0, 1.0


def resized(latents: Tensor, rows: int, columns: int, upscaler: str = "Latent") -> Tensor:
    """Latents at another size."""
    return functional.interpolate(latents, (rows, columns), **LATENT_UPSCALERS[upscaler])


def first_noise(
    drawing: Drawing, generator: torch.Generator, shape: tuple[int, int, int], scale: int
) -> Tensor:
    """The noise that a drawing begins with, of shape (1, channels, rows, columns).

    Drawn on the CPU in 32 bits, so that a seed means the same on every device.

    Args:
        drawing: whose seed the generator has.
        generator: of the drawing.
        shape: channels, rows and columns.
        scale: pixels of a latent.
    """
    variation = drawing.variation
    if variation is None:
        return _normal(shape, generator)
    channels, rows, columns = shape
    inner = (channels, variation.height // scale or rows, variation.width // scale or columns)
    if inner == shape:
        return _varied(_normal(shape, generator), variation)
    centre = _varied(_normal(inner, torch.Generator().manual_seed(drawing.seed)), variation)
    whole = _normal(shape, generator)
    (top, from_top, height), (left, from_left, width) = (
        _centred(inner[axis], shape[axis]) for axis in (1, 2)
    )
    whole[..., top : top + height, left : left + width] = centre[
        ..., from_top : from_top + height, from_left : from_left + width
    ]
    return whole


def _varied(noise: Tensor, variation: Variation) -> Tensor:
    """Noise on the way to that of a second seed, along a great circle."""
    if variation.strength == 0:
        return noise
    shape = tuple(noise.shape[1:])
    other = _normal(shape, torch.Generator().manual_seed(variation.subseed))
    cosine = functional.cosine_similarity(noise.flatten(), other.flatten(), dim=0)
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle < 1e-3:  # as good as the same
        return torch.lerp(noise, other, variation.strength)
    first = torch.sin((1 - variation.strength) * angle)
    second = torch.sin(variation.strength * angle)
    return (noise * first + other * second) / torch.sin(angle)


def _centred(inner: int, outer: int) -> tuple[int, int, int]:
    """Where something goes in the middle: its place outside, what is cut off it, its length."""
    ahead = abs(outer - inner) // 2
    return (ahead, 0, inner) if inner <= outer else (0, ahead, outer)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn((1, *shape), generator=generator)

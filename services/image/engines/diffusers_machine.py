"""What the thread draws with."""

import contextlib
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from services.image.engines.diffusers_families import Pipelines
from services.image.engines.diffusers_latents import Codec, resized
from services.image.engines.diffusers_memory import Shapes
from services.image.engines.diffusers_preview import Colours
from services.image.engines.diffusers_rows import Rows
from services.image.engines.diffusers_schedules import Config, Solver


@dataclass(frozen=True, slots=True)
class Machine:
    """A loaded model and what goes with it."""

    pipelines: Pipelines
    codec: Codec
    rows: Rows
    colours: Colours
    solvers: dict[str, Solver]
    own: Config
    """The model's scheduler config."""
    device: torch.device
    size_multiple: int

    def pack(self, latents: Tensor) -> Tensor:
        """As the denoiser takes them."""
        if not self.pipelines.family.packs:
            return latents
        text, (count, channels, rows, columns) = self.pipelines.text, latents.shape
        return text._pack_latents(latents, count, channels, rows, columns)

    def unpack(self, latents: Tensor, width: int, height: int) -> Tensor:
        """As the VAE takes them."""
        if not self.pipelines.family.packs:
            return latents
        return self.pipelines.text._unpack_latents(latents, height, width, self.codec.scale)

    def shapes(self) -> Shapes:
        """What decides how much memory drawings take."""
        denoiser = self.pipelines.denoiser
        config: Any = denoiser.config
        vae: Any = self.pipelines.text.vae.config
        widths = vae.get("block_out_channels") or vae.decoder_block_out_channels
        unet = self.pipelines.family.denoiser == "unet"
        packs = self.pipelines.family.packs
        return Shapes(
            scale=self.codec.scale,
            itemsize=denoiser.dtype.itemsize,
            levels=tuple(config.block_out_channels) if unet else (),
            inner=0 if unet else config.num_attention_heads * config.attention_head_dim,
            token_latents=4 if packs else 1 if unet else config.patch_size**2,
            vae_first=widths[0],
            vae_widest=max(widths),
        )

    @contextlib.contextmanager
    def meeting_edges(self) -> Generator[None]:
        """Convolutions go round the edges in here."""
        found: list[Any] = [
            module
            for part in (self.pipelines.denoiser, self.pipelines.text.vae)
            for module in part.modules()
            if isinstance(module, nn.Conv2d)
        ]
        before = [module.padding_mode for module in found]
        for module in found:
            module.padding_mode = "circular"
        try:
            yield
        finally:
            for module, mode in zip(found, before, strict=True):
                module.padding_mode = mode


class Coding:
    """Encodes and decodes for one run, and measures the time that it takes."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.seconds = 0.0

    def encode(
        self, picture: Image.Image, generator: torch.Generator | None, rows: int, columns: int
    ) -> Tensor:
        """Latents of a picture; scaled to so many rows and columns, where it is of another size."""
        began = time.perf_counter()
        multiple = self._machine.size_multiple
        width, height = (max(multiple, round(side / multiple) * multiple) for side in picture.size)
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        found = self._machine.codec.encode(picture, generator)
        if found.shape[2:] != (rows, columns):
            found = resized(found, rows, columns)
        self.seconds += time.perf_counter() - began
        return found

    def decode(self, latents: Tensor) -> Image.Image:
        """The picture of latents of one row."""
        began = time.perf_counter()
        found = self._machine.codec.decode(latents)
        self.seconds += time.perf_counter() - began
        return found

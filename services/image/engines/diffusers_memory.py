"""How much memory a batch takes beside the weights: an estimate from the model's shapes."""

from typing import Any

from services.image.engine import Plan
from services.image.engines.diffusers_machine import Machine

_BUFFERS = 6
"""Activations of a layer's size that live at the same time."""
_UNPACKED = 12
"""The same for a block of a transformer, whose inner layers are four times as wide."""


def memory_bytes(plan: Plan, count: int, machine: Machine) -> int:
    """About how many bytes a batch of so many drawings takes."""
    width, height = plan.width, plan.height
    if plan.hires is not None:
        width, height = max(width, plan.hires.width), max(height, plan.hires.height)
    codec, denoiser = machine.codec, machine.pipelines.denoiser
    pixels, guided = width * height, 2
    latents = pixels // codec.scale**2
    size = denoiser.dtype.itemsize
    config: Any = denoiser.config
    if machine.pipelines.family.denoiser == "unet":
        wide = sum(
            channels * latents // 4**level
            for level, channels in enumerate(config.block_out_channels)
        )
        denoising = wide * size * _BUFFERS
    else:
        tokens = latents // (4 if machine.pipelines.family.packs else config.patch_size**2)
        inner = config.num_attention_heads * config.attention_head_dim
        denoising = tokens * inner * size * _UNPACKED
    vae: Any = machine.pipelines.text.vae.config
    widest = max(vae.get("block_out_channels") or vae.decoder_block_out_channels)
    first = (vae.get("block_out_channels") or vae.decoder_block_out_channels)[0]
    # The VAE works at full size with its narrow layers, at half with the wider ones.
    decoding = pixels * max(first, widest // 4) * size * _BUFFERS
    kept = pixels * 3 * (1 + 4)
    return max(denoising * guided * count, decoding) + kept * count

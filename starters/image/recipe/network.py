"""The networks that draw: a small UNet and the text encoder that it listens to."""

from __future__ import annotations

from typing import Final

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from starters.image.recipe.tokenizer import LENGTH

NATIVE: Final = 64
"""The side of the latents of a picture of the model's own size, 512 pixels."""

NOISE: Final = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
}
"""How pictures drown in noise: nearly wholly, so that plain backgrounds get their colour."""

DWELL: Final = 0.7
"""Below one, training dwells where noise is high, for there the text decides."""

_WORDS: Final = 160
_WIDTHS: Final = (64, 96, 128, 160)


def unet() -> UNet2DConditionModel:
    """An untrained UNet that looks at the text and at the whole picture where it is smallest."""
    return UNet2DConditionModel(
        sample_size=NATIVE,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=_WIDTHS,
        down_block_types=(*("DownBlock2D",) * 3, "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", *("UpBlock2D",) * 3),
        attention_head_dim=tuple(width // 32 for width in _WIDTHS),
        cross_attention_dim=_WORDS,
        norm_num_groups=16,
    )


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained text encoder for a tokenizer's tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_WORDS,
            intermediate_size=4 * _WORDS,
            projection_dim=_WORDS,
            num_hidden_layers=4,
            num_attention_heads=5,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Painter(nn.Module):
    """The UNet and the text encoder, trained as one."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.unet = unet().to(memory_format=torch.channels_last)
        self.unet.set_attn_processor(AttnProcessor())  # its backward pass is faster on processors
        self.text_encoder = text_encoder(tokenizer)
        self.text_encoder.set_attn_implementation("eager")
        noise = DDIMScheduler(**NOISE)
        self.register_buffer("kept", noise.alphas_cumprod, persistent=False)

    def levels(self, count: int, dwell: float, noise: torch.Generator) -> Tensor:
        """Levels of noise, spread evenly; with `dwell` below one, more of them are high."""
        spread = torch.randperm(count, generator=noise) + torch.rand(count, generator=noise)
        return ((spread / count) ** dwell * len(self.kept)).long()

    def drowned(
        self, latents: Tensor, times: Tensor, noise: torch.Generator, grain_size: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Latents, each at its level of noise, and what is to be predicted of them."""
        kept = self.kept[times].view(-1, 1, 1, 1)
        signal, loud = kept.sqrt(), (1 - kept).sqrt()
        grain = torch.randn(latents.shape, generator=noise) * grain_size
        noisy = (signal * latents + loud * grain).contiguous(memory_format=torch.channels_last)
        return noisy, signal * grain - loud * latents

    def loss(
        self, latents: Tensor, tokens: Tensor, noise: torch.Generator, dwell: float = DWELL
    ) -> Tensor:
        """The error in what is predicted of latents, each at its own level of noise."""
        times = self.levels(len(latents), dwell, noise)
        noisy, wanted = self.drowned(latents, times, noise)
        words = self.text_encoder(tokens).last_hidden_state
        made = self.unet(noisy, times, words).sample
        return functional.mse_loss(made.float(), wanted)

"""Puts the outer levels of the UNet around inner levels that can sketch."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from starters.image.recipe.network import Painter

_BATCH: Final = 8
_ROUNDS: Final = 6
_RIDGE: Final = 1e-3


@torch.no_grad()
def calmed(painter: Painter, latents: Tensor, tokens: Tensor, noise: torch.Generator) -> None:
    """Brings what the outer levels hear from the inner ones to a spread of one.

    Inner levels that have learnt long speak so loud that the outer ones, new as they are, would
    not be heard beside them: noise would never be taken away.
    """
    unet = painter.unet
    heard: dict[nn.Module, Tensor] = {}

    def hear(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        heard[module] = made.float()

    last = unet.up_blocks[1].resnets[-1]
    loud: list[nn.Module] = [last]
    loud += [
        resnet.time_emb_proj
        for block in (*unet.down_blocks[:2], *unet.up_blocks[2:])
        for resnet in block.resnets
    ]
    hooks = [module.register_forward_hook(hear) for module in loud]
    times = torch.randint(0, len(painter.kept), (len(latents),), generator=noise)
    noisy, _ = painter.drowned(latents, times, noise)
    unet(noisy, times, painter.text_encoder(tokens).last_hidden_state)
    for hook in hooks:
        hook.remove()
    for module, made in heard.items():
        for part in (module.conv2, module.conv_shortcut) if module is last else (module,):
            part.weight /= made.std()
            part.bias /= made.std()


@torch.no_grad()
def joined(painter: Painter, entry: nn.Conv2d, latents: Tensor, noise: torch.Generator) -> float:
    """Makes the outer levels hand over what the inner ones are used to; the share left unexplained.

    The last convolution on the way in is replaced by the linear fit, over noisy latents of all
    levels of noise, of what the inner levels had from their own entry while they learnt.
    """
    down = painter.unet.down_blocks[1].downsamplers[0].conv
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    for start in range(0, _BATCH * _ROUNDS, _BATCH):
        some = latents[start : start + _BATCH].float()
        times = torch.randint(0, len(painter.kept), (len(some),), generator=noise)
        noisy, _ = painter.drowned(some, times, noise)
        hidden = _outer(painter, noisy, times)
        patches = functional.unfold(hidden, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)
        given.append(torch.cat([patches, torch.ones(len(patches), 1)], dim=1))
        told = entry(functional.avg_pool2d(noisy, 4))
        wanted.append(told.flatten(2).transpose(1, 2).flatten(0, 1))
    seen, told = torch.cat(given).double(), torch.cat(wanted).double()
    normal = seen.T @ seen
    normal += _RIDGE * normal.diagonal().mean() * torch.eye(len(normal), dtype=torch.float64)
    found = torch.linalg.solve(normal, seen.T @ told)
    down.weight.copy_(found[:-1].T.reshape(down.weight.shape).float())
    down.bias.copy_(found[-1].float())
    return ((seen @ found - told).square().mean() / told.var(dim=0).mean()).item()


def _outer(painter: Painter, noisy: Tensor, times: Tensor) -> Tensor:
    """What the second level holds before it makes the picture smaller."""
    unet = painter.unet
    when = unet.time_embedding(unet.time_proj(times))
    hidden, _ = unet.down_blocks[0](hidden_states=unet.conv_in(noisy), temb=when)
    for resnet in unet.down_blocks[1].resnets:
        hidden = resnet(hidden, when)
    return hidden

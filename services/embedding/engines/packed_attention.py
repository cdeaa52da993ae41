"""Attention of the packed encoder: each input of a row attends to itself alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from services.embedding.engines.packing import Blocks
from services.embedding.engines.rows import Row

Distances = Callable[[Tensor], Tensor]
"""Makes scores' additions `[heads, …]` of distances `[…]` from queries to keys."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Cosines and signed sines of a row's positions, `[tokens, 1, head_dim]`."""

    cosines: Tensor
    sines: Tensor

    def apply(self, states: Tensor) -> Tensor:
        """Rotates `[tokens, heads, head_dim]`."""
        # Halves change places by a roll; the sines' first half carries the sign.
        swapped = states.roll(states.shape[-1] // 2, -1)
        return torch.addcmul(states * self.cosines, swapped, self.sines)


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary positions.

    Args:
        frequencies: `[head_dim / 2]`, float32.
        scale: of cosines and sines.
    """

    frequencies: Tensor
    scale: float

    def at(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotation of positions `[tokens]`."""
        angles = positions[:, None, None].float() * self.frequencies
        cosines, sines = angles.cos() * self.scale, angles.sin() * self.scale
        return Rotation(
            torch.cat((cosines, cosines), -1).to(dtype), torch.cat((-sines, sines), -1).to(dtype)
        )


class Attention:
    """Attention within the inputs of one row, for all layers of one kind.

    Args:
        row: the row.
        heads: of queries, keys and values.
        scale: of scores.
        dtype: of the states.
        window: how far tokens see to each side; 0 is everywhere.
        distances: additions to the scores.
    """

    def __init__(
        self,
        row: Row,
        *,
        heads: int,
        scale: float,
        dtype: torch.dtype,
        window: int = 0,
        distances: Distances | None = None,
    ) -> None:
        self._heads = heads
        self._scale = scale
        self._parts = [(x, _mask(row, x, dtype, window, distances)) for x in row.blocks]

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each `[tokens, heads, head_dim]`; returns `[tokens, heads · head_dim]`."""
        done = [self._part(blocks, mask, query, key, value) for blocks, mask in self._parts]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _part(
        self, blocks: Blocks, mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        # One view a tensor: with many blocks, slicing and turning them is a cost of its own.
        shape = (blocks.count, self._heads, blocks.size, query.shape[-1])
        states = [
            x.as_strided(
                shape,
                (blocks.size * x.stride(0), x.stride(1), x.stride(0), 1),
                x.storage_offset() + blocks.start * x.stride(0),
            )
            for x in (query, key, value)
        ]
        out = F.scaled_dot_product_attention(*states, attn_mask=mask, scale=self._scale)
        return out.transpose(1, 2).reshape(blocks.count * blocks.size, -1)


def _mask(
    row: Row, blocks: Blocks, dtype: torch.dtype, window: int, distances: Distances | None
) -> Tensor | None:
    """Added to the scores: `[blocks, 1 or heads, size, size]`, or None for nothing."""
    span = slice(blocks.start, blocks.start + blocks.count * blocks.size)
    shape = (blocks.count, blocks.size)
    narrow = 0 < window < blocks.size - 1
    if not (blocks.shared or narrow or distances):
        return None
    # Blocks of one input each have the same positions.
    count = blocks.count if blocks.shared else 1
    inputs = row.inputs[span].view(shape)[:count]
    positions = row.positions[span].view(shape)[:count]
    distance = positions[:, None, :] - positions[:, :, None]
    seen = inputs[:, None, :] == inputs[:, :, None]
    if narrow:
        seen &= distance.abs() <= window
    hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    mask = hidden.masked_fill_(~seen, -math.inf)[:, None]
    if distances is not None:
        mask = mask + distances(distance).transpose(0, 1)
    return mask

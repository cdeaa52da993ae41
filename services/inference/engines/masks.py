"""Which positions a token may attend to."""

from dataclasses import dataclass

import torch
from torch import Tensor

FULL = "full_attention"
SLIDING = "sliding_attention"


@dataclass(frozen=True, slots=True)
class Masks:
    """Makes the masks of a model, ready for its layers.

    Keys of all positions stay in memory; a layer's window is part of its mask.
    """

    kinds: frozenset[str]
    """Kinds of attention among the layers: `full_attention`, `sliding_attention` or both."""
    window: int
    """Positions that sliding attention sees, the token's own included. Unused without it."""
    additive: torch.dtype | None
    """Number type of an additive mask; None for a boolean one (true: attend)."""

    def make(self, positions: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        """Makes `[batch, 1, queries, length]` from positions `[batch, queries]`.

        Where there are several kinds, this is a mapping from kind to mask.
        """
        columns = torch.arange(length, device=positions.device)
        queries = positions[:, None, :, None]
        full = columns <= queries
        masks: dict[str, Tensor] = {}
        for kind in sorted(self.kinds):
            mask = full & (columns > queries - self.window) if kind == SLIDING else full
            masks[kind] = self._finish(mask)
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _finish(self, mask: Tensor) -> Tensor:
        if self.additive is None:
            return mask
        floor = torch.finfo(self.additive).min
        return torch.zeros(mask.shape, dtype=self.additive, device=mask.device).masked_fill(
            ~mask, floor
        )

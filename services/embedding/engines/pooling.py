"""Makes one vector of the states of an input's tokens, as sentence-transformers does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.embedding.engines.rows import Row

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""Ways to pool, by sentence-transformers' names."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """What pooling reads: the tokens that count."""

    states: Tensor
    """`[tokens, width]`, float32, of all inputs one after another; ignored ones left out."""
    positions: Tensor
    """Of each token in its own input."""
    lengths: Tensor
    """Of each input, without what is ignored: `[inputs]`."""
    inputs: Tensor
    """Which input a token belongs to."""

    @property
    def ends(self) -> Tensor:
        """Where each input ends."""
        return self.lengths.cumsum(0)

    def sums(self, states: Tensor) -> Tensor:
        """Sums over each input's tokens."""
        sums = states.new_zeros(len(self.lengths), states.shape[-1])
        return sums.index_add_(0, self.inputs, states)


def pool(states: Tensor, row: Row, modes: Sequence[str]) -> Tensor:
    """Vectors `[inputs, modes · width]` in the row's order, float32."""
    lengths = torch.tensor(row.lengths, device=states.device)
    positions, inputs = row.positions, row.inputs
    if any(row.ignored):
        ignored = torch.tensor(row.ignored, device=states.device)
        kept = positions >= ignored[inputs]
        states, positions, inputs = states[kept], positions[kept], inputs[kept]
        lengths = lengths - ignored
    pooled = Pooled(states.float(), positions, lengths, inputs)
    vectors = [_POOLS[mode](pooled) for mode in modes]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, -1)


def _first(pooled: Pooled) -> Tensor:
    return pooled.states[pooled.ends - pooled.lengths]


def _last(pooled: Pooled) -> Tensor:
    return pooled.states[pooled.ends - 1]


def _max(pooled: Pooled) -> Tensor:
    shape = (len(pooled.lengths), pooled.states.shape[-1])
    least = pooled.states.new_full(shape, -torch.inf)
    index = pooled.inputs[:, None].expand_as(pooled.states)
    return least.scatter_reduce_(0, index, pooled.states, "amax")


def _mean(pooled: Pooled) -> Tensor:
    return pooled.sums(pooled.states) / pooled.lengths[:, None]


def _mean_root(pooled: Pooled) -> Tensor:
    return pooled.sums(pooled.states) / pooled.lengths[:, None].sqrt()


def _weighted_mean(pooled: Pooled) -> Tensor:
    weights = (pooled.positions[:, None] + 1).float()
    return pooled.sums(pooled.states * weights) / pooled.sums(weights)


_POOLS: dict[str, Callable[[Pooled], Tensor]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_root,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}

"""A compact, inference-only implementation of bidirectional encoders, over rows without padding.

One implementation for many families: `packed_facts` says what a model is, `packed_build` takes its
weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from services.embedding.engines.packed_attention import Attention, Distances, Rotary
from services.embedding.engines.packed_linear import Linear
from services.embedding.engines.rows import Row


@dataclass(frozen=True, slots=True)
class Norm:
    """Layer norm."""

    weight: Tensor
    bias: Tensor | None
    epsilon: float

    def __call__(self, states: Tensor) -> Tensor:
        """Normalises the last dimension."""
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights."""

    qkv: Linear
    output: Linear
    up: Linear
    gate: Linear | None
    down: Linear
    attention_norm: Norm | None
    """None: attention reads the states as they are."""
    mlp_norm: Norm
    kind: str
    """Of attention: a key of `Weights.kinds`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of attention."""

    window: int = 0
    """How far tokens see to each side; 0 is everywhere."""
    rotary: Rotary | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights and facts."""

    words: Tensor
    """`[vocabulary, width]`."""
    positions: Tensor | None
    """`[positions, width]`: what is added at each, the first token type included."""
    second: Tensor | None
    """`[width]`: what is added to tokens of the second text of a pair."""
    embedding_norm: Norm
    widen: Linear | None
    """From the embedding's width to that of the layers."""
    layers: Sequence[Layer]
    final_norm: Norm | None
    kinds: Mapping[str, Kind]
    heads: int
    scale: float
    """Of attention scores."""
    activation: str
    norm_first: bool
    """Whether norms stand before attention and MLP; else after the sums."""
    distances: Distances | None = None


class PackedEncoder:
    """Runs an encoder over rows."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self.device = weights.words.device
        self.dtype = weights.words.dtype

    @torch.inference_mode()
    def __call__(self, row: Row) -> Tensor:
        """The states of a row's tokens after the last layer, `[tokens, width]`."""
        weights = self._weights
        states = self._embed(row)
        attentions = {
            name: Attention(
                row,
                heads=weights.heads,
                scale=weights.scale,
                dtype=self.dtype,
                window=kind.window,
                distances=weights.distances,
            )
            for name, kind in weights.kinds.items()
        }
        rotations = {
            name: kind.rotary.at(row.positions, self.dtype)
            for name, kind in weights.kinds.items()
            if kind.rotary is not None
        }
        for layer in weights.layers:
            read = states
            if weights.norm_first and layer.attention_norm is not None:
                read = layer.attention_norm(states)
            both = layer.qkv(read).view(len(states), 3 * weights.heads, -1)
            value = both[:, 2 * weights.heads :]
            turned = both[:, : 2 * weights.heads]
            if layer.kind in rotations:
                turned = rotations[layer.kind].apply(turned)
            query, key = turned[:, : weights.heads], turned[:, weights.heads :]
            attended = attentions[layer.kind](query, key, value)
            states = self._mlp(layer, layer.output.plus(attended, states))
        return states if weights.final_norm is None else weights.final_norm(states)

    def _embed(self, row: Row) -> Tensor:
        weights = self._weights
        states = F.embedding(row.ids, weights.words)
        if weights.positions is not None:
            states += F.embedding(row.positions, weights.positions)
        if weights.second is not None and row.second is not None:
            states += row.second[:, None] * weights.second
        states = weights.embedding_norm(states)
        return states if weights.widen is None else weights.widen(states)

    def _mlp(self, layer: Layer, summed: Tensor) -> Tensor:
        """What follows the sum of attention and what it read."""
        weights = self._weights
        if weights.norm_first:
            states, read = summed, layer.mlp_norm(summed)
        else:
            assert layer.attention_norm is not None
            states = read = layer.attention_norm(summed)
        if layer.gate is None:
            inner = layer.up.activated(read, weights.activation)
        else:
            inner = layer.up.times(read, layer.gate.activated(read, weights.activation))
        after = layer.down.plus(inner, states)
        return after if weights.norm_first else layer.mlp_norm(after)

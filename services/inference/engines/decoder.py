"""A compact, inference-only implementation of decoder-only language models.

One implementation for many families: `decoder_facts` says what a model is, `decoder_build` takes
its weights. It is called as transformers' models are, and computes what they compute with fewer and
larger kernels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import PretrainedConfig

from services.inference.engines.decoder_adapters import AdapterSet, ReadAdapter
from services.inference.engines.decoder_attention import Attend, Rotary, Rotation, choose_attention
from services.inference.engines.decoder_facts import DecoderFacts
from services.inference.engines.decoder_linear import Projection
from services.inference.engines.masks import Masks


class KeysAndValues(Protocol):
    """Attention memory."""

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> Any:
        """Writes `[batch, kv_heads, queries, head_dim]`; returns what is to be read."""
        ...


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm, or layer norm where it has a bias or is said to be one."""

    weight: Tensor
    bias: Tensor | None
    epsilon: float
    centred: bool
    """Layer norm."""

    def __call__(self, states: Tensor) -> Tensor:
        """Normalises the last dimension."""
        shape = self.weight.shape
        if self.centred:
            return F.layer_norm(states, shape, self.weight, self.bias, self.epsilon)
        if self.weight.dtype == states.dtype:
            return F.rms_norm(states, shape, self.weight, self.epsilon)
        # Weights that bfloat16 would round (Gemma's, near one) stay float32.
        return F.rms_norm(states.float(), shape, self.weight, self.epsilon).to(states.dtype)


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """RMS norm of queries and keys, each head by itself: `[heads + kv_heads, head_dim]`."""

    weight: Tensor
    epsilon: float

    def __call__(self, states: Tensor) -> Tensor:
        """Normalises `[batch, queries, heads + kv_heads, head_dim]`."""
        normal = F.rms_norm(states.float(), states.shape[-1:], None, self.epsilon)
        return (normal * self.weight).to(states.dtype)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's weights."""

    qkv: Projection
    output: Projection
    gate: Projection | None
    up: Projection
    down: Projection
    before_attention: Norm
    after_attention: Norm | None
    before_mlp: Norm | None
    """None: the MLP reads what attention reads."""
    after_mlp: Norm | None
    head_norm: HeadNorm | None
    kind: str
    scale: float
    """Of attention scores."""
    rotates: bool


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights."""

    embedding: Tensor
    positions: Tensor | None
    layers: Sequence[Layer]
    norm: Norm
    head: Projection
    rotary: dict[str, Rotary]
    """By kind of attention."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a forward pass gives."""

    logits: Tensor
    """`[batch, positions, vocabulary]`."""


class Decoder:
    """A causal language model."""

    def __init__(self, config: PretrainedConfig, facts: DecoderFacts, weights: Weights) -> None:
        self.config = config
        self.device = weights.embedding.device
        self.dtype = weights.embedding.dtype
        self.outputs = weights.head.outputs
        """Logits of a position."""
        self._facts = facts
        self._weights = weights
        self._attend: Attend = choose_attention(self.device, facts.attention_softcap)
        self._masks = Masks(frozenset(facts.kinds), facts.window, self.dtype)
        layers = weights.layers
        self.projections = [p for x in layers for p in (x.qkv, x.output, x.gate, x.up, x.down) if p]
        """Of the layers."""
        self._adapters = AdapterSet(self.projections, self.device, self.dtype)
        # A number that transformers rounds to the weights' type before it multiplies by it.
        self._embedding_scale = float(torch.tensor(facts.embedding_scale, dtype=self.dtype))

    def __call__(self, *args: Any, **arguments: Any) -> Output:
        """See `forward`."""
        return self.forward(*args, **arguments)

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KeysAndValues | None = None,
        use_cache: bool = False,
        logits_to_keep: int = 0,
    ) -> Output:
        """Runs a forward pass.

        Args:
            input_ids: `[batch, queries]`.
            attention_mask: `[batch, 1, queries, length]`, added to the scores; one for each kind of
                attention where the model has several. None: causal, over these tokens alone.
            position_ids: `[batch, queries]`. None: from 0.
            past_key_values: attention memory; needs masks and positions.
            use_cache: as `past_key_values` says.
            logits_to_keep: positions from the end that get logits; 0 is all.
        """
        if use_cache != (past_key_values is not None):
            raise ValueError("use_cache goes together with past_key_values")
        if past_key_values is not None and (attention_mask is None or position_ids is None):
            raise ValueError("attention memory needs attention_mask and position_ids")
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=self.device)[None]
        if attention_mask is None:
            attention_mask = self._masks.make(position_ids, input_ids.shape[1])
        with self._adapters.placed(len(input_ids)):
            states = self._embed(input_ids, position_ids)
            rotations = {
                kind: rotary.at(position_ids, self.dtype)
                for kind, rotary in self._weights.rotary.items()
            }
            for index, layer in enumerate(self._weights.layers):
                mask = (
                    attention_mask
                    if isinstance(attention_mask, Tensor)
                    else attention_mask[layer.kind]
                )
                rotation = rotations[layer.kind] if layer.rotates else None
                states = self._layer(layer, states, rotation, mask, past_key_values, index)
            return Output(self._logits(states[:, -logits_to_keep:]))

    def add_adapter(self, name: str, folder: Path) -> None:
        """Loads a LoRA adapter from a PEFT folder, between two passes.

        Raises:
            FailedPrecondition: it is broken, does not fit, or does what this engine doesn't.
        """
        self.put_adapter(name, self.read_adapter(folder))

    def read_adapter(self, folder: Path) -> ReadAdapter:
        """Reads an adapter for `put_adapter`, on any thread and beside passes.

        Raises:
            FailedPrecondition: it is broken, does not fit, or does what this engine doesn't.
        """
        return self._adapters.read(folder)

    def put_adapter(self, name: str, adapter: ReadAdapter) -> None:
        """Takes in what was read, between two passes."""
        self._adapters.put(name, adapter)

    def drop_adapter(self, name: str) -> None:
        """Forgets an adapter, between two passes."""
        self._adapters.drop(name)

    def rows(self, names: Sequence[str | None]) -> None:
        """Says which adapter each row of the next pass has; passes not told of have none."""
        self._adapters.rows(names)

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        states = F.embedding(tokens, self._weights.embedding)
        if self._embedding_scale != 1.0:
            states = states * self._embedding_scale
        if self._weights.positions is not None:
            states = states + F.embedding(positions, self._weights.positions)
        return states

    def _layer(
        self,
        layer: Layer,
        states: Tensor,
        rotation: Rotation | None,
        mask: Tensor,
        memory: KeysAndValues | None,
        index: int,
    ) -> Tensor:
        residual = self._facts.residual_scale
        read = layer.before_attention(states)
        attended = self._attention(layer, read, rotation, mask, memory, index)
        if layer.after_attention is not None:
            attended = layer.after_attention(attended)
        if not self._facts.parallel:
            states = states.add_(attended, alpha=residual)
        if layer.before_mlp is not None:
            read = layer.before_mlp(states)
        change = self._mlp(layer, read)
        if layer.after_mlp is not None:
            change = layer.after_mlp(change)
        if self._facts.parallel:
            change = change.add_(attended)
        return states.add_(change, alpha=residual)

    def _attention(
        self,
        layer: Layer,
        states: Tensor,
        rotation: Rotation | None,
        mask: Tensor,
        memory: KeysAndValues | None,
        index: int,
    ) -> Tensor:
        facts = self._facts
        batch, count = states.shape[:2]
        both = facts.heads + facts.kv_heads
        projected = layer.qkv(states).view(batch, count, both + facts.kv_heads, facts.head_dim)
        # Queries and keys go through norm and rotation together.
        turned = projected[:, :, :both]
        if layer.head_norm is not None:
            turned = layer.head_norm(turned)
        if rotation is not None:
            turned = rotation.apply(turned)
        query = turned[:, :, : facts.heads].transpose(1, 2)
        key = turned[:, :, facts.heads :].transpose(1, 2)
        value = projected[:, :, both:].transpose(1, 2)
        if memory is not None:
            key, value = memory.update(key, value, index)
        attended = self._attend(query, key, value, mask, layer.scale)
        return layer.output(attended.transpose(1, 2).reshape(batch, count, -1))

    def _mlp(self, layer: Layer, states: Tensor) -> Tensor:
        if layer.gate is None:
            return layer.down(layer.up.activated(states, self._facts.activation))
        gate = layer.gate.activated(states, self._facts.activation)
        return layer.down(layer.up.times(states, gate))

    def _logits(self, states: Tensor) -> Tensor:
        facts = self._facts
        logits = self._weights.head(self._weights.norm(states))
        if facts.logit_scale != 1.0:
            logits = logits * facts.logit_scale
        if facts.logit_softcap is not None:
            logits = torch.tanh(logits / facts.logit_softcap) * facts.logit_softcap
        return logits

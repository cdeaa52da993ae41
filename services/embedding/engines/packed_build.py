"""Makes a packed encoder out of a model that transformers has loaded, and proves it equal."""

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from services.embedding.engines.packed_attention import Distances, Rotary
from services.embedding.engines.packed_encoder import (
    Kind,
    Layer,
    Norm,
    PackedEncoder,
    Weights,
)
from services.embedding.engines.packed_facts import SLIDING, Facts
from services.embedding.engines.packed_linear import Linear, activate

_log = logging.getLogger(__name__)

Head = Callable[[Tensor], Tensor]
"""Logits `[inputs]` of the states of first tokens `[inputs, width]`."""


@torch.no_grad()
def build_packed(model: PreTrainedModel, facts: Facts) -> PackedEncoder:
    """Makes a packed encoder of an encoder's weights; plain tensors are shared with it."""
    family = facts.family
    words = _weight(model.get_submodule(family.words))
    types = _weight(model.get_submodule(family.types)) if family.types else None
    positions = _positions(model, facts, types, words)
    widen = None
    if family.widen and hasattr(model, family.widen):
        widen = _linear(model.get_submodule(family.widen))
    layers = [_layer(model, facts, index) for index in range(facts.layers)]
    return PackedEncoder(
        Weights(
            words=words,
            positions=positions,
            second=types[1] - types[0] if types is not None and len(types) > 1 else None,
            embedding_norm=_norm(model.get_submodule(family.embedding_norm)),
            widen=widen,
            layers=layers,
            final_norm=_norm(model.get_submodule(family.final_norm)) if family.final_norm else None,
            kinds={kind: _kind(model, facts, kind) for kind in set(facts.kinds)},
            heads=facts.heads,
            scale=_head_width(model, facts) ** -0.5,
            activation=facts.activation,
            norm_first=family.norm_first,
            distances=_distances(model, facts),
        )
    )


def build_head(model: PreTrainedModel, facts: Facts) -> Head | None:
    """The head of a cross-encoder; None where the packed encoder doesn't cover it."""
    path = facts.family.head
    if not path:
        return None
    first, activation, last = path
    inner, outer = model.get_submodule(first), model.get_submodule(last)

    def head(states: Tensor) -> Tensor:
        hidden = inner(states)
        hidden = hidden.tanh() if activation == "tanh" else activate(hidden, activation)
        return outer(hidden)[:, 0]

    return torch.inference_mode()(head)


def _layer(model: PreTrainedModel, facts: Facts, index: int) -> Layer:
    family = facts.family
    module = model.get_submodule(f"{family.layers}.{index}")
    projections = [module.get_submodule(path) for path in family.qkv]
    up = module.get_submodule(family.up)
    gate: Linear | None = None
    if family.gate and family.gate == family.up:
        half = len(_weight(up)) // 2
        gate, above = _linear(up, rows=slice(half)), _linear(up, rows=slice(half, None))
    else:
        gate = _linear(module.get_submodule(family.gate)) if family.gate else None
        above = _linear(up)
    before = module.get_submodule(family.attention_norm)
    return Layer(
        qkv=_linear(*projections),
        output=_linear(module.get_submodule(family.output)),
        up=above,
        gate=gate,
        down=_linear(module.get_submodule(family.down)),
        attention_norm=None if isinstance(before, nn.Identity) else _norm(before),
        mlp_norm=_norm(module.get_submodule(family.mlp_norm)),
        kind=facts.kinds[index],
    )


def _positions(
    model: PreTrainedModel, facts: Facts, types: Tensor | None, words: Tensor
) -> Tensor | None:
    """What each position adds, together with the first token type."""
    first = None if types is None else types[0].float()
    if not facts.family.positions:
        if first is None:
            return None
        length = int(model.config.max_position_embeddings)
        return first.to(words.dtype).expand(length, -1)
    learnt = _weight(model.get_submodule(facts.family.positions))
    learnt = learnt[facts.family.first_position :].float()
    return (learnt if first is None else learnt + first).to(words.dtype)


def _kind(model: PreTrainedModel, facts: Facts, kind: str) -> Kind:
    rotary = None
    if facts.family.rotary:
        module = model.get_submodule(facts.family.rotary)
        prefix = f"{kind}_" if hasattr(module, f"{kind}_inv_freq") else ""
        frequencies = cast("Tensor", getattr(module, f"{prefix}inv_freq"))
        rotary = Rotary(frequencies.float(), float(getattr(module, f"{prefix}attention_scaling")))
    return Kind(window=facts.window if kind == SLIDING else 0, rotary=rotary)


def _distances(model: PreTrainedModel, facts: Facts) -> Distances | None:
    if not facts.family.distances:
        return None
    module: Any = model.get_submodule(facts.family.distances)
    table = _weight(module.relative_attention_bias)
    bucket_of: Callable[[Tensor], Tensor] = module.relative_position_bucket  # static

    def added(distance: Tensor) -> Tensor:
        return table[bucket_of(distance)].movedim(-1, 0)

    return added


def _head_width(model: PreTrainedModel, facts: Facts) -> int:
    module = model.get_submodule(f"{facts.family.layers}.0.{facts.family.qkv[0]}")
    return len(_weight(module)) * len(facts.family.qkv) // 3 // facts.heads


def _linear(*modules: nn.Module, rows: slice | None = None) -> Linear:
    """One linear layer of one or several, whose outputs follow one another."""
    rows = rows or slice(None)
    weights = [_weight(module)[rows] for module in modules]
    biases = [_bias(module) for module in modules]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    if all(bias is None for bias in biases):
        return Linear(weight, None)
    bias = [
        part.new_zeros(len(part)) if bias is None else bias[rows]
        for part, bias in zip(weights, biases, strict=True)
    ]
    return Linear(weight, torch.cat(bias))


def _norm(module: nn.Module) -> Norm:
    if not isinstance(module, nn.LayerNorm):
        raise TypeError(f"{type(module).__name__} is no layer norm")
    return Norm(module.weight.detach(), _bias(module), module.eps)


def _weight(module: nn.Module) -> Tensor:
    return cast("Tensor", module.weight).detach()


def _bias(module: nn.Module) -> Tensor | None:
    bias = cast("Tensor | None", getattr(module, "bias", None))
    return None if bias is None else bias.detach()

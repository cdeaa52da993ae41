"""Plans memory before weights are read: what doesn't fit is refused with the arithmetic shown."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from services.errors import FailedPrecondition
from services.inference.engines.kv_pool import rounded
from services.inference.engines.static_decode import MOST_SHAPES, rounded_up
from services.weights.memory import in_units, read_headers, weight_bytes

CPU_SHARE = 0.5
"""Of the memory that is free beside the weights: other processes live here too."""
GPU_SHARE = 0.9
LOGITS_COPIES = 6
"""Float32 copies of a step's logits while tokens are chosen."""
HIDDEN_COPIES = 8
"""Copies of a step's hidden states within a layer, its attention included."""
SCALE_BYTES = 4
GRAPH_BYTES = 8 * 2**20
"""What a recorded step takes beside the memory that all of them share. An estimate."""


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """Bytes that a model takes."""

    weights: int
    working: int
    """Activations of the largest step and what choosing tokens takes."""
    kv_token: int
    """Attention memory of one token, over all layers."""
    layers: int
    context: int
    """Most tokens of a sequence."""
    slots: int
    """Sequences that run at once."""
    loading: int = 0
    """Most that weights take on the device on their way to what they take there in the end."""


def plan_kv(needs: MemoryNeeds, *, free: int, share: float, asked: int) -> int:
    """Bytes of attention memory to give a model.

    Args:
        needs: what it takes.
        free: bytes that are free before it is loaded.
        share: part of what is left beside it that may be taken unasked.
        asked: `kv_cache_bytes`; 0 is unasked.

    Raises:
        FailedPrecondition: it doesn't fit, not even with one sequence of a whole context.
    """
    if needs.loading > free:
        raise FailedPrecondition(
            f"The model does not fit into memory while it is loaded: {in_units(needs.loading)} of "
            f"weights before they have eight bits, but {in_units(max(0, free))} are free. Free "
            f"some memory, or deploy a smaller model."
        )
    # While it is resized, one layer's part exists twice.
    left = (free - needs.weights - needs.working) * needs.layers // (needs.layers + 1)
    one = (rounded(needs.context) + 1) * needs.kv_token
    if asked and asked < one:
        raise FailedPrecondition(
            f"kv_cache_bytes is {in_units(asked)}, but one sequence of {needs.context} tokens "
            f"takes {_kv(needs, one)}: raise it, or lower the model's context length."
        )
    least = asked or one
    if least > left:
        total = needs.weights + needs.working + least + least // needs.layers
        raise FailedPrecondition(
            f"The model does not fit into memory: {in_units(needs.weights)} of weights + "
            f"{in_units(needs.working)} to work with + {_kv(needs, least)} of attention memory "
            f"(and one layer's part of it twice) make {in_units(total)}, but "
            f"{in_units(max(0, free))} are free. Lower the context length or kv_cache_bytes, take "
            f"a smaller number type, or free some memory."
        )
    return asked or max(one, min(needs.slots * one, int(left * share)))


def check_kv(budget: int, kv_token: int, context: int) -> int:
    """Tokens that the memory holds, by what a token was found to take.

    Raises:
        FailedPrecondition: not even one sequence of a whole context.
    """
    tokens = budget // kv_token
    if tokens < rounded(context) + 1:
        raise FailedPrecondition(
            f"{in_units(budget)} of attention memory hold {tokens} tokens of {kv_token:,} bytes, "
            f"but a context is {context} tokens: raise kv_cache_bytes, or lower the context length."
        )
    return tokens


def memory_needs(
    config: PretrainedConfig,
    files: Iterable[Path],
    dtype: torch.dtype,
    *,
    context: int,
    slots: int,
    step_tokens: int,
    recorded: bool = False,
    eight: Collection[str] = (),
    loads_on_device: bool = True,
) -> MemoryNeeds:
    """What a model takes, by its configuration and the headers of its weights.

    Args:
        config: its configuration.
        files: its weights.
        dtype: the number type that they are read into.
        context: most tokens of a sequence.
        slots: sequences that run at once.
        step_tokens: most tokens of a step.
        recorded: whether decode steps are recorded, with memory of their own.
        eight: modules of a layer whose matrices are kept in eight bits.
        loads_on_device: whether weights come to the device before they have eight bits.
    """
    files = tuple(files)
    whole = weight_bytes(files, dtype.itemsize)
    values: Any = config
    heads = int(values.num_attention_heads)
    kv_heads = int(getattr(values, "num_key_value_heads", None) or heads)
    hidden = int(values.hidden_size)
    head_size = int(getattr(values, "head_dim", None) or hidden // heads)
    inner = int(getattr(values, "intermediate_size", None) or 4 * hidden)
    layers = int(values.num_hidden_layers)
    tokens = max(step_tokens, slots)
    states = tokens * (HIDDEN_COPIES * hidden + 3 * inner) * dtype.itemsize
    scores = heads * tokens * context * 4  # attention that is not fused holds them all
    logits = max(slots, 128) * int(values.vocab_size) * 4 * LOGITS_COPIES
    graphs = 0
    if recorded:
        row = HIDDEN_COPIES * hidden + 3 * inner + 4 * int(values.vocab_size) + heads * context
        graphs = rounded_up(slots) * row * dtype.itemsize + MOST_SHAPES * GRAPH_BYTES
    narrow = _matrices(files, eight)
    # Matrices that are multiplied together are made whole for a product, one product at a time.
    widened = 3 * max(map(prod, narrow), default=0) * dtype.itemsize
    return MemoryNeeds(
        weights=whole - sum(_saved(shape, dtype) for shape in narrow),
        working=states + min(scores, 2**30) + logits + graphs + widened,
        kv_token=2 * layers * kv_heads * head_size * dtype.itemsize,
        layers=layers,
        context=context,
        slots=slots,
        loading=whole if narrow and loads_on_device else 0,
    )


def _matrices(files: Iterable[Path], names: Collection[str]) -> list[tuple[int, ...]]:
    """Shapes of these modules' matrices."""
    if not names:
        return []
    endings = tuple(f".{name}.weight" for name in names)
    return [shape for name, _, shape in read_headers(files) if name.endswith(endings)]


def _saved(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes that eight bits save of a matrix, less those of the scales."""
    return prod(shape) * (dtype.itemsize - 1) - max(shape) * SCALE_BYTES


def _kv(needs: MemoryNeeds, size: int) -> str:
    return f"{in_units(size)} ({size // needs.kv_token} tokens × {needs.kv_token:,} bytes)"

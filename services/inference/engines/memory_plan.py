"""Plans memory before weights are read: what doesn't fit is refused with the arithmetic shown."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PretrainedConfig

from services.errors import FailedPrecondition
from services.inference.engines.kv_pool import rounded

CPU_SHARE = 0.5
"""Of the memory that is free beside the weights: other processes live here too."""
GPU_SHARE = 0.9
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types that are read into the number type of the engine."""
WIDTHS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}
LOGITS_COPIES = 6
"""Float32 copies of a step's logits while tokens are chosen."""
HIDDEN_COPIES = 8
"""Copies of a step's hidden states within a layer, its attention included."""


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
    # While it is resized, one layer's part exists twice.
    left = (free - needs.weights - needs.working) * needs.layers // (needs.layers + 1)
    one = (rounded(needs.context) + 1) * needs.kv_token
    if asked and asked < one:
        raise FailedPrecondition(
            f"kv_cache_bytes is {_size(asked)}, but one sequence of {needs.context} tokens takes "
            f"{_kv(needs, one)}: raise it, or lower the model's context length."
        )
    least = asked or one
    if least > left:
        total = needs.weights + needs.working + least + least // needs.layers
        raise FailedPrecondition(
            f"The model does not fit into memory: {_size(needs.weights)} of weights + "
            f"{_size(needs.working)} to work with + {_kv(needs, least)} of attention memory (and "
            f"one layer's part of it twice) make {_size(total)}, but {_size(max(0, free))} are "
            f"free. Lower the context length or kv_cache_bytes, take a smaller number type, or "
            f"free some memory."
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
            f"{_size(budget)} of attention memory hold {tokens} tokens of {kv_token:,} bytes, but "
            f"a context is {context} tokens: raise kv_cache_bytes, or lower the context length."
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
) -> MemoryNeeds:
    """What a model takes, by its configuration and the headers of its weights."""
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
    return MemoryNeeds(
        weights=weight_bytes(files, dtype.itemsize),
        working=states + min(scores, 2**30) + logits,
        kv_token=2 * layers * kv_heads * head_size * dtype.itemsize,
        layers=layers,
        context=context,
        slots=slots,
    )


def weight_bytes(files: Iterable[Path], float_size: int) -> int:
    """Bytes of the weights in memory, from the headers of safetensors files."""
    total = 0
    for file in files:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in cast("dict[str, dict[str, Any]]", header).items():
            if name != "__metadata__":
                kind = str(tensor["dtype"])
                width = float_size if kind in FLOATS else WIDTHS.get(kind, 1)
                total += prod(tensor["shape"]) * width
    return total


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that are free on a device, for this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_machine_free(), container_free())


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return values["MemAvailable"]


def container_free(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a container's limit leaves; file pages that can be dropped count as free."""
    unlimited = 2**62
    try:
        most = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return unlimited
    if most == "max":
        return unlimited
    droppable = int(statistics[statistics.index("inactive_file") + 1])
    return int(most) - used + droppable


def _kv(needs: MemoryNeeds, size: int) -> str:
    return f"{_size(size)} ({size // needs.kv_token} tokens × {needs.kv_token:,} bytes)"


def _size(count: int) -> str:
    power = min(3, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:,.4g} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"

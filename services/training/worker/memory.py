"""Chooses how much of a step is computed at a time, from the memory that there is."""

from pathlib import Path
from typing import Any

import msgspec
import torch

from services.training.folder import JobFolder, Plan
from services.training.journal import write_whole
from services.weights.memory import free_bytes

_FILE = "settled.json"
_SHARE = 0.9
_LOGIT_TILE = 4096 * 32768
"""Logits that are there at a time, at most: tokens by words of the vocabulary."""
_MOST_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Larger parts are no faster."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What must stay as it is when another worker goes on, so that its numbers are the same."""

    most_tokens: int
    """Of a part of a step, padding included."""
    recompute: bool
    """Whether activations are computed again in the backward pass."""
    bf16: bool

    def smaller(self, longest: int, count: int) -> "Settled | None":
        """What takes less memory, for a step of so many sequences; None where nothing does."""
        most = min(self.most_tokens, longest * count)
        if most > longest:
            return msgspec.structs.replace(self, most_tokens=max(longest, most // 2))
        return None if self.recompute else msgspec.structs.replace(self, recompute=True)


def read_settled(folder: JobFolder) -> Settled | None:
    """What an earlier worker of the job settled."""
    path: Path = folder.path / _FILE
    return msgspec.json.decode(path.read_bytes(), type=Settled) if path.is_file() else None


def write_settled(folder: JobFolder, settled: Settled) -> None:
    """Keeps it for later workers."""
    write_whole(folder.path / _FILE, msgspec.json.encode(settled))


def settle(
    plan: Plan, model: Any, device: torch.device, *, longest: int, trained: int, bf16: bool
) -> Settled:
    """Estimates what fits.

    Args:
        plan: the job's.
        model: that is trained, loaded already.
        device: where it will be.
        longest: tokens of the longest sequence.
        trained: number of parameters that are trained.
        bf16: whether that is computed with.
    """
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    held = weights if plan.memory_bytes or device.type == "cuda" else 0
    total = plan.memory_bytes or int(free_bytes(device) * _SHARE)
    width = 2 if bf16 else 4
    # Gradients and two moments of each trained parameter, and what is cast for a forward pass.
    room = total - held - trained * (12 + (2 if bf16 else 0))
    room -= 3 * 4 * _LOGIT_TILE if device.type == "cuda" else 0
    most = _MOST_TOKENS.get(device.type, 4096)
    per_token = activation_bytes(model, longest, width)
    recompute = per_token * longest > room
    if recompute:
        per_token = activation_bytes(model, longest, width, recompute=True)
    fitting = min(most, max(0, room) // per_token)
    return Settled(most_tokens=max(longest, fitting), recompute=recompute, bf16=bf16)


def activation_bytes(model: Any, length: int, width: int, *, recompute: bool = False) -> int:
    """Bytes that a token of a sequence takes until its gradients are computed; an estimate."""
    config = model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 0) or 768)
    inner = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
    layers = int(getattr(config, "num_hidden_layers", 0) or 12)
    heads = int(getattr(config, "num_attention_heads", 0) or 12)
    layer = width * (18 * hidden + 6 * inner) + 8 * heads * length
    if recompute:
        return layers * width * hidden + layer
    return layers * layer

"""Reads LoRA adapters as PEFT writes them: `adapter_config.json`, `adapter_model.safetensors`."""

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from services.errors import FailedPrecondition

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_KEY = re.compile(r"^base_model\.model\.(?P<path>.+)\.lora_(?P<side>[AB])\.weight$")
_REFUSED = {  # options that mean other arithmetic, or other weights than LoRA's two matrices
    "use_dora": "DoRA",
    "lora_bias": "LoRA biases",
    "modules_to_save": "whole modules (modules_to_save)",
    "alpha_pattern": "a scale of its own for each module (alpha_pattern)",
    "layer_replication": "replicated layers",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "adapted parameters (target_parameters)",
    "use_qalora": "QALoRA",
    "alora_invocation_tokens": "activated LoRA",
}
_BASE_KEPT = {"gaussian", "eva", "orthogonal"}
"""Ways to initialise that leave the base's weights as they are."""


@dataclass(frozen=True, slots=True)
class ModuleAdapter:
    """The change of one linear module: `up @ down`, the scale included."""

    down: Tensor
    """`[rank, inputs]`."""
    up: Tensor
    """`[outputs, rank]`."""


def read_adapter(
    folder: Path, *, device: torch.device, dtype: torch.dtype
) -> dict[str, ModuleAdapter]:
    """Reads an adapter: the path of each adapted module and its change.

    Raises:
        FailedPrecondition: it is broken, or does what this engine doesn't.
    """
    config = _read_config(folder / CONFIG)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise FailedPrecondition(
            f"{WEIGHTS} is missing or no whole safetensors file: save the adapter again with "
            f"`model.save_pretrained(folder)`."
        ) from error
    found: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise FailedPrecondition(
                f"{WEIGHTS} holds “{key}”; this engine takes LoRA matrices of linear layers only: "
                f"merge the adapter into its base and deploy that."
            )
        found[match["path"]][match["side"]] = tensor
    if not found:
        raise FailedPrecondition(f"{WEIGHTS} holds no LoRA matrices: save the adapter again.")
    return {
        path: _module(path, sides, config, device=device, dtype=dtype)
        for path, sides in found.items()
    }


def _module(
    path: str,
    sides: dict[str, Tensor],
    config: dict[str, Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> ModuleAdapter:
    down, up = sides.get("A"), sides.get("B")
    if down is None or up is None or down.ndim != 2 or up.ndim != 2 or up.shape[1] != len(down):
        raise FailedPrecondition(
            f"The LoRA matrices of {path} don't fit each other: save the adapter again."
        )
    if not len(down):
        raise FailedPrecondition(f"The LoRA matrices of {path} are empty: train the adapter again.")
    if not bool(torch.isfinite(down).all() and torch.isfinite(up).all()):
        raise FailedPrecondition(
            f"The LoRA matrices of {path} hold numbers that are not finite: train the adapter "
            f"again."
        )
    rank = math.sqrt(len(down)) if config.get("use_rslora") else len(down)
    scale = float(config["lora_alpha"]) / rank
    # Scaled before it is rounded to the model's number type.
    return ModuleAdapter(down.to(device, dtype), (up.float() * scale).to(device, dtype))


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FailedPrecondition(
            f"{CONFIG} is missing or no JSON: save the adapter again with "
            f"`model.save_pretrained(folder)`."
        ) from error
    if not isinstance(config, dict):
        raise FailedPrecondition(f"{CONFIG} holds no JSON object: save the adapter again.")
    content = cast("dict[str, Any]", config)
    kind = content.get("peft_type")
    if kind != "LORA":
        raise FailedPrecondition(
            f"{CONFIG} says peft_type {kind}; this engine takes LORA: merge the adapter into its "
            f"base and deploy that."
        )
    refused = [label for name, label in _REFUSED.items() if content.get(name)]
    if content.get("bias", "none") != "none":
        refused.append("biases (bias)")
    initial = content.get("init_lora_weights", True)
    if isinstance(initial, str) and initial not in _BASE_KEPT:
        refused.append(f"a changed base (init_lora_weights={initial})")
    if refused:
        raise FailedPrecondition(
            f"The adapter uses {', '.join(refused)}, which this engine does not: merge it into its "
            f"base and deploy that."
        )
    alpha = content.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise FailedPrecondition(f"{CONFIG} names no lora_alpha: save the adapter again.")
    return content

"""Writes weights as they are served, and the tensors that a worker needs to go on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from services.training.folder import Plan
from services.training.worker.checkpoints import TENSORS

_ADAPTER_CONFIG = "adapter_config.json"
_COPIED = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
"""What is beside the weights and stays as it is in the base."""
_ADAPTER = "default"


def write_weights(model: Any, folder: Path, plan: Plan, saved_as: torch.dtype) -> None:
    """Writes what is served: an adapter, or whole weights in the number type of the base."""
    if hasattr(model, "peft_config"):
        model.save_pretrained(
            str(folder), selected_adapters=[_ADAPTER], save_embedding_layers=False
        )
        (folder / "README.md").unlink(missing_ok=True)
        _tidy(folder / _ADAPTER_CONFIG, plan)
        return
    tensors = model.state_dict()
    if saved_as is not torch.float32:
        tensors = {
            name: tensor.to(saved_as) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    model.save_pretrained(str(folder), state_dict=tensors, max_shard_size="1000GB")
    # Trainers change these to their liking; what is served differs from its base in weights only.
    for name in _COPIED:
        source = Path(plan.base_folder, name)
        if source.is_file():
            shutil.copyfile(source, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def write_tensors(model: Any, optimizer: Any, folder: Path) -> None:
    """Writes what is trained, in full precision, and the optimiser's moments."""
    tensors = {f"weight:{name}": tensor.detach() for name, tensor in _trained(model)}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"moment:{index}:{name}"] = torch.as_tensor(value)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / TENSORS)


def read_weights(model: Any, folder: Path) -> None:
    """Sets what is trained as it was."""
    tensors = load_file(folder / TENSORS)
    with torch.no_grad():
        for name, tensor in _trained(model):
            tensor.copy_(tensors[f"weight:{name}"])


def read_moments(folder: Path) -> dict[int, dict[str, Tensor]]:
    """The optimiser's moments, by the index of the parameter."""
    found: dict[int, dict[str, Tensor]] = {}
    for key, tensor in load_file(folder / TENSORS).items():
        if key.startswith("moment:"):
            _, index, name = key.split(":", 2)
            found.setdefault(int(index), {})[name] = tensor
    return found


def _trained(model: Any) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad)


def _tidy(file: Path, plan: Plan) -> None:
    """Makes the adapter's configuration the same each time, and without paths of this machine."""
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = plan.base_id
    if isinstance(config.get("target_modules"), list):
        config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

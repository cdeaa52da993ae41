"""Loads what is trained: a base in safetensors, its tokenizer, and adapters to go on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from services.errors import FailedPrecondition
from services.training.folder import LoraPlan, Plan
from services.training.worker.failures import Failed
from services.weights.chat_text import ChatText
from services.weights.configuration import load_config, load_tokenizer
from services.weights.folder import ModelFolder, read_json
from services.weights.processor import choose_device, likes_bfloat16

_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_LARGE = 100_000_000
"""Parameters from which on bf16 pays on a CPU that has it; smaller models lose more by rounding."""
_SAVED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(slots=True)
class Base:
    """A model that is ready to be trained."""

    model: Any
    """Whole, or a `PeftModel` where an adapter is gone on from."""
    tokenizer: PreTrainedTokenizerBase
    text: ChatText
    saved_as: torch.dtype
    """Number type in which the base is saved."""
    parameter_count: int
    lora: LoraConfig | None
    """New matrices to be put in; None where there are some already, or none are wanted."""

    @property
    def ends(self) -> Sequence[int]:
        """Tokens that end an answer, the tokenizer's own first."""
        configs = (self.model.config, getattr(self.model, "generation_config", None))
        found: list[Any] = [cast("Any", self.tokenizer).eos_token_id]
        for config in configs:
            entry: Any = getattr(config, "eos_token_id", None)
            found += cast("list[Any]", entry) if isinstance(entry, list) else [entry]
        return tuple(dict.fromkeys(token for token in found if isinstance(token, int)))

    @property
    def opening(self) -> Sequence[int]:
        """Tokens that stand for an empty prompt."""
        token = self.tokenizer.bos_token or self.tokenizer.eos_token or ""
        return self.text.encode(cast("str", token))

    def context_length(self, served: int) -> int:
        """Most tokens that the model reads: as it is served, and as it was made."""
        made = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        lengths = [length for length in (served, made) if isinstance(length, int) and length > 0]
        return min(lengths, default=2048)


def uses_bf16(device: torch.device, parameter_count: int) -> bool:
    """Whether arithmetic in bf16 is done, because the device does it well."""
    pays = device.type != "cpu" or parameter_count >= _LARGE
    return pays and likes_bfloat16(device)


def load_base(plan: Plan) -> Base:
    """Loads the base of a plan.

    Raises:
        FailedPrecondition: its folder is broken, wants code to run or is no safetensors.
        Failed: the plan asks of it what it can't do.
    """
    folder = ModelFolder(Path(plan.base_folder))
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    text = ChatText(tokenizer)
    device = choose_device(plan.device)
    count = _parameter_count(folder)
    # What is trained is kept in fp32; what stays as it is needn't be.
    frozen_bf16 = plan.lora is not None and uses_bf16(device, count)
    try:
        model: Any = cast("Any", AutoModelForCausalLM).from_pretrained(
            folder.path,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if frozen_bf16 else torch.float32,
        )
    except (ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise FailedPrecondition(
            "The base model can't be loaded for training: its configuration and its weights don't "
            "fit each other, or it is no language model. The worker's log has the details."
        ) from error
    model.config.use_cache = False
    lora = None
    if plan.adapter_folder:
        model = _with_adapter(model, Path(plan.adapter_folder), merge=plan.lora is None)
    elif plan.lora is not None:
        lora = _lora(model, plan.lora)
    return Base(model, tokenizer, text, _saved_dtype(folder), count, lora)


def _with_adapter(model: Any, folder: Path, *, merge: bool) -> Any:
    config = read_json(folder / _ADAPTER)
    if config.get("peft_type") != "LORA" or not (folder / _ADAPTER_WEIGHTS).is_file():
        raise FailedPrecondition(
            "The base is an adapter that is no LoRA in safetensors: train on its base, or on "
            "merged weights."
        )
    try:
        adapted: Any = cast("Any", PeftModel).from_pretrained(
            model, str(folder), is_trainable=not merge, local_files_only=True
        )
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise FailedPrecondition(
            "The adapter that is the base doesn't fit the model below it: train on that model."
        ) from error
    # Beside an adapter, the weights below it were frozen.
    return adapted.merge_and_unload().requires_grad_(True) if merge else adapted


def _lora(model: Any, plan: LoraPlan) -> LoraConfig:
    """New matrices for the modules wanted, or for all linear ones but the output.

    Raises:
        Failed: there is no such module, or none that can be adapted.
    """
    output = model.get_output_embeddings()
    linear = [
        path
        for path, module in model.named_modules()
        if _is_linear(module) and module is not output
    ]
    names = sorted({path.rpartition(".")[2] for path in linear})
    for name in plan.target_modules:
        if not any(path == name or path.endswith(f".{name}") for path in linear):
            raise Failed(
                "invalid_hyperparameters",
                f"The model has no linear layer “{name}” that can be adapted: it has "
                f"{', '.join(names)}.",
                "job.lora.target_modules",
            )
    rank = plan.rank or 16
    return LoraConfig(
        r=rank,
        lora_alpha=cast("Any", plan.alpha if plan.alpha is not None else 2.0 * rank),
        lora_dropout=plan.dropout,
        target_modules=list(plan.target_modules) or names,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _is_linear(module: object) -> bool:
    # GPT-2 keeps its linear layers transposed, under this name.
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def _header(folder: ModelFolder) -> list[dict[str, Any]]:
    tensors: list[dict[str, Any]] = []
    for file in folder.weights:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        tensors += [tensor for name, tensor in header.items() if name != "__metadata__"]
    return tensors


def _parameter_count(folder: ModelFolder) -> int:
    return sum(torch.Size(tensor["shape"]).numel() for tensor in _header(folder))


def _saved_dtype(folder: ModelFolder) -> torch.dtype:
    """The type of most of its numbers."""
    sizes: dict[str, int] = {}
    for tensor in _header(folder):
        kind = tensor["dtype"]
        sizes[kind] = sizes.get(kind, 0) + torch.Size(tensor["shape"]).numel()
    most = max(sizes, key=lambda kind: sizes[kind], default="F32")
    return _SAVED.get(most, torch.float32)

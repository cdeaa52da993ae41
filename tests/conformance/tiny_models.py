"""Random models small enough to make on the fly, with the real architectures' own code."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

CORPUS = [
    "The quick brown fox jumps over the lazy dog. Tell me a story about water and a gate.",
    "Grüße aus Köln! Ça va? Привет, мир. 你好，世界。 😀🎉 naïve café 123 456.",
]
CHATML = (
    "{%- for message in messages %}"
    "{%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{- raise_exception('Unknown role: ' + message.role) }}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,  # spread logits: no near-ties that rounding could turn
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen2-hybrid": {
        "model_type": "qwen2",
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "sliding_window": 6,
    },
    "qwen3": {"head_dim": 8},
    "mistral": {"sliding_window": None},
    "mistral-sliding": {"model_type": "mistral", "sliding_window": 6},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    "phi": {},
    "phi3": {"pad_token_id": None, "sliding_window": None},
    "gpt2": {"n_positions": 4096, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {},
    "smollm3": {"no_rope_layers": [1, 0], "pad_token_id": None},
    "granite": {
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "starcoder2": {"sliding_window": None},
}


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=CHATML
    )


def models_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder for models, with the cache `openvino` that all processes of a test run share.

    To convert a model takes seconds, and those of a family and a seed are the same in each process.
    """
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "openvino"
    shared.mkdir(exist_ok=True)
    folder = factory.mktemp("models")
    (folder / "openvino").symlink_to(shared)
    return folder


def save_model(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """Saves a random model of a family with the byte-level tokenizer."""
    tokenizer = byte_level_tokenizer()
    model = random_model(family, len(tokenizer), tokenizer.eos_token_id, **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_model(
    family: str, vocabulary_size: int = 320, eos: int | None = None, **changes: Any
) -> PreTrainedModel:
    """Makes a random model of a family."""
    options = {**SHAPE, **FAMILIES[family], **changes}
    if family == "gpt2":
        options = {**FAMILIES[family], "initializer_range": 0.2, **changes}
    model_type = options.pop("model_type", family)
    special = {"bos_token_id": None, "eos_token_id": eos, "pad_token_id": None}
    config = AutoConfig.for_model(model_type, vocab_size=vocabulary_size, **{**special, **options})
    torch.manual_seed(20)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)

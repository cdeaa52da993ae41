"""A random model of SmolLM2-135M's shape: speed depends on the shape, not on what was learnt."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from benchmarks.engine.jobs import VOCABULARY
from benchmarks.engine.number_type import DTYPE

STARTER = Path(__file__).resolve().parents[2] / "starters" / "chat" / "model"


def make(folder: Path) -> None:
    """Writes the model as safetensors, with the starter's tokenizer."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_theta=100_000.0,
        eos_token_id=2,
        bos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=DTYPE)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(STARTER).save_pretrained(folder)

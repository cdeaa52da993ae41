"""Pairs of a random transformers model and the compact decoder made of its twin."""

import copy
from typing import Any

import torch
from transformers import PreTrainedModel

from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_build import build_decoder
from services.inference.engines.decoder_facts import decoder_facts
from tests.conformance.tiny_models import FAMILIES, random_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-one-kv-head": ("llama", {"num_key_value_heads": 1}),
    "llama-wide-heads": ("llama", {"head_dim": 16}),
    "llama-rope3": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-yarn": ("llama", {"rope_parameters": YARN}),
    "llama-linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}},
    ),
    "llama-gelu": ("llama", {"hidden_act": "gelu"}),
    "gemma2-capped": ("gemma2", {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 1.5}),
    "gpt2-scaled": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2-relu": ("gpt2", {"activation_function": "relu"}),
    "gpt_neox-sequential": ("gpt_neox", {"use_parallel_residual": False}),
}


def reference(variant: str) -> PreTrainedModel:
    """A random transformers model of which no bias is zero and no norm is one."""
    family, changes = VARIANTS[variant]
    model = random_model(family, **changes).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def compact(model: PreTrainedModel) -> Decoder:
    """The compact decoder with the same weights."""
    facts = decoder_facts(model.config)
    assert facts is not None
    return build_decoder(copy.deepcopy(model), facts)

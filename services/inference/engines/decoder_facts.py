"""What the compact decoder knows about a model: the facts of its architecture and its layout.

A family is one entry in `_FAMILIES`. Whatever an entry does not cover (an unknown activation, an
option that changes the arithmetic) makes the facts None, and transformers' own code runs the model.
"""

from dataclasses import dataclass, replace
from typing import Any

from transformers import PretrainedConfig

from services.inference.engines.masks import FULL, SLIDING

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""transformers' names of activations and ours."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where transformers keeps a family's weights: paths of modules below a layer or the model."""

    embedding: str = "model.embed_tokens"
    positions: str | None = None
    """Learned positions."""
    rotary: str | None = "model.rotary_emb"
    layers: str = "model.layers"
    final_norm: str = "model.norm"
    attention: str = "self_attn"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    qkv_by_head: bool = False
    """One matrix whose rows are query, key and value of the first head, then of the second …"""
    output: str = "self_attn.o_proj"
    query_norm: str | None = None
    key_norm: str | None = None
    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_mlp: str | None = "post_attention_layernorm"
    """None: the MLP reads what attention reads."""
    after_mlp: str | None = None
    gate: str | None = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    """The same as `gate` where one matrix holds both, the gate's rows first."""
    down: str = "mlp.down_proj"
    head: str = "lm_head"

    @property
    def matrices(self) -> frozenset[str]:
        """All linear modules of a layer."""
        return frozenset({*self.qkv, self.output, self.gate or self.up, self.up, self.down})


@dataclass(frozen=True, slots=True)
class DecoderFacts:
    """What distinguishes one decoder-only architecture from another."""

    layout: Layout
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    kinds: tuple[str, ...]
    """Kind of attention of each layer."""
    rotates: tuple[bool, ...]
    """Whether a layer has rotary positions."""
    window: int
    """Positions that sliding attention sees."""
    activation: str
    epsilon: float
    norm_offset: float = 0.0
    """Added to the weights of RMS norms; Gemma stores them less one."""
    parallel: bool = False
    """Attention and MLP both read the layer's input."""
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0


_LLAMA = Layout()
_QWEN3 = replace(_LLAMA, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
_GEMMA2 = replace(
    _LLAMA,
    after_attention="post_attention_layernorm",
    before_mlp="pre_feedforward_layernorm",
    after_mlp="post_feedforward_layernorm",
)
_GEMMA3 = replace(_GEMMA2, query_norm="self_attn.q_norm", key_norm="self_attn.k_norm")
_PHI = replace(
    _LLAMA,
    final_norm="model.final_layernorm",
    output="self_attn.dense",
    before_mlp=None,
    gate=None,
    up="mlp.fc1",
    down="mlp.fc2",
)
_PHI3 = replace(_LLAMA, qkv=("self_attn.qkv_proj",), gate="mlp.gate_up_proj", up="mlp.gate_up_proj")
_STARCODER2 = replace(_LLAMA, gate=None, up="mlp.c_fc", down="mlp.c_proj")
_GPT2 = Layout(
    embedding="transformer.wte",
    positions="transformer.wpe",
    rotary=None,
    layers="transformer.h",
    final_norm="transformer.ln_f",
    attention="attn",
    qkv=("attn.c_attn",),
    output="attn.c_proj",
    before_attention="ln_1",
    before_mlp="ln_2",
    gate=None,
    up="mlp.c_fc",
    down="mlp.c_proj",
)
_GPT_NEOX = Layout(
    embedding="gpt_neox.embed_in",
    rotary="gpt_neox.rotary_emb",
    layers="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    attention="attention",
    qkv=("attention.query_key_value",),
    qkv_by_head=True,
    output="attention.dense",
    gate=None,
    up="mlp.dense_h_to_4h",
    down="mlp.dense_4h_to_h",
)


@dataclass(frozen=True, slots=True)
class _Family:
    layout: Layout
    activation: str = "hidden_act"
    """Name of the setting."""
    epsilon: str = "rms_norm_eps"
    norm_offset: float = 0.0
    scales_embedding: bool = False
    shares_keys: bool = True
    """Whether several query heads may share one of keys."""
    refused: tuple[str, ...] = ()
    """Settings that change the arithmetic when they are on."""


_FAMILIES = {
    "llama": _Family(_LLAMA),
    "mistral": _Family(_LLAMA),
    "qwen2": _Family(_LLAMA),
    "qwen3": _Family(_QWEN3),
    "smollm3": _Family(_LLAMA),
    "granite": _Family(_LLAMA),
    "gemma": _Family(_LLAMA, norm_offset=1.0, scales_embedding=True),
    "gemma2": _Family(
        _GEMMA2,
        "hidden_activation",
        norm_offset=1.0,
        scales_embedding=True,
        refused=("use_bidirectional_attention",),
    ),
    "gemma3_text": _Family(
        _GEMMA3,
        "hidden_activation",
        norm_offset=1.0,
        scales_embedding=True,
        refused=("use_bidirectional_attention",),
    ),
    "phi": _Family(_PHI, epsilon="layer_norm_eps", refused=("qk_layernorm",)),
    "phi3": _Family(_PHI3),
    "starcoder2": _Family(_STARCODER2, epsilon="norm_epsilon"),
    "gpt2": _Family(
        _GPT2,
        "activation_function",
        "layer_norm_epsilon",
        shares_keys=False,
        refused=("add_cross_attention",),
    ),
    "gpt_neox": _Family(_GPT_NEOX, epsilon="layer_norm_eps", shares_keys=False),
}

FAMILIES = frozenset(_FAMILIES)
"""Values of `model_type` that the compact decoder knows."""


def decoder_facts(config: PretrainedConfig) -> DecoderFacts | None:
    """The facts of a configuration; None where the compact decoder does not cover it."""
    family = _FAMILIES.get(config.model_type)
    if family is None or any(getattr(config, name, None) for name in family.refused):
        return None
    activation = ACTIVATIONS.get(_text(config, family.activation))
    kinds = _kinds(config)
    if activation is None or set(kinds) - {FULL, SLIDING}:
        return None
    heads = kv_heads = int(config.num_attention_heads)
    if family.shares_keys:
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(config.hidden_size)
    return DecoderFacts(
        layout=family.layout,
        layers=len(kinds),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=int(getattr(config, "head_dim", None) or width // heads),
        kinds=kinds,
        rotates=_rotates(config, len(kinds)),
        window=int(getattr(config, "sliding_window", None) or 0),
        activation=activation,
        epsilon=float(getattr(config, family.epsilon)),
        norm_offset=family.norm_offset,
        parallel=config.model_type == "phi" or bool(getattr(config, "use_parallel_residual", None)),
        attention_softcap=_number(config, "attn_logit_softcapping"),
        logit_softcap=_number(config, "final_logit_softcapping"),
        embedding_scale=width**0.5
        if family.scales_embedding
        else _number(config, "embedding_multiplier") or 1.0,
        residual_scale=_number(config, "residual_multiplier") or 1.0,
        logit_scale=1.0 / (_number(config, "logits_scaling") or 1.0),
    )


def _kinds(config: PretrainedConfig) -> tuple[str, ...]:
    count = int(config.num_hidden_layers)
    named: Any = getattr(config, "layer_types", None)
    if named:
        return tuple(str(kind) for kind in named)[:count]
    window = getattr(config, "sliding_window", None)
    sliding = window and getattr(config, "use_sliding_window", True)
    return (SLIDING if sliding else FULL,) * count


def _rotates(config: PretrainedConfig, count: int) -> tuple[bool, ...]:
    # The setting is named for the opposite of what its values say: 1 is a layer that rotates.
    marks: Any = getattr(config, "no_rope_layers", None)
    return tuple(bool(mark) for mark in marks)[:count] if marks else (True,) * count


def _text(config: PretrainedConfig, name: str) -> str:
    value: Any = getattr(config, name, None)
    return value if isinstance(value, str) else ""


def _number(config: PretrainedConfig, name: str) -> float | None:
    value: Any = getattr(config, name, None)
    return None if value is None else float(value)

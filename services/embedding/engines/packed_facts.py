"""What the packed encoder knows about families: where transformers keeps their weights.

A family is one entry in `FAMILIES`. Whatever an entry does not cover (an unknown activation, an
option that changes the arithmetic) makes the facts None, and transformers' own code runs the model.
"""

from dataclasses import dataclass, replace
from typing import Any

from transformers import PretrainedConfig

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
"""transformers' names of activations and ours."""
FULL = "full_attention"
SLIDING = "sliding_attention"


@dataclass(frozen=True, slots=True)
class Family:
    """Paths of modules below the model or a layer, and what the family does with them."""

    words: str = "embeddings.word_embeddings"
    positions: str = "embeddings.position_embeddings"
    """Empty: none are learnt."""
    types: str = "embeddings.token_type_embeddings"
    """Empty: there are no token types."""
    embedding_norm: str = "embeddings.LayerNorm"
    widen: str = ""
    layers: str = "encoder.layer"
    qkv: tuple[str, ...] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    gate: str = ""
    """The same as `up`: the first half of its outputs."""
    up: str = "intermediate.dense"
    down: str = "output.dense"
    mlp_norm: str = "output.LayerNorm"
    final_norm: str = ""
    rotary: str = ""
    distances: str = ""
    """The module of relative positions' additions to the scores."""
    first_position: int = 0
    """Row of the positions that the first token has."""
    norm_first: bool = False
    head: tuple[str, ...] = ("bert.pooler.dense", "tanh", "classifier")
    """What a cross-encoder does with the state of its first token."""


_BERT = Family()
_ROBERTA = replace(_BERT, head=("classifier.dense", "tanh", "classifier.out_proj"))
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "ernie": replace(_BERT, head=("ernie.pooler.dense", "tanh", "classifier")),
    "electra": replace(
        _BERT,
        widen="embeddings_project",
        head=("classifier.dense", "gelu", "classifier.out_proj"),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": replace(
        _ROBERTA,
        types="",
        qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        distances="encoder",
        first_position=2,
    ),
    "distilbert": replace(
        _BERT,
        types="",
        layers="transformer.layer",
        qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        mlp_norm="output_layer_norm",
        head=("pre_classifier", "relu", "classifier"),
    ),
    "modernbert": Family(
        words="embeddings.tok_embeddings",
        positions="",
        types="",
        embedding_norm="embeddings.norm",
        layers="layers",
        qkv=("attn.Wqkv",),
        output="attn.Wo",
        attention_norm="attn_norm",
        gate="mlp.Wi",
        up="mlp.Wi",
        down="mlp.Wo",
        mlp_norm="mlp_norm",
        final_norm="final_norm",
        rotary="rotary_emb",
        norm_first=True,
        head=(),
    ),
    "nomic_bert": Family(
        positions="",
        layers="layers",
        qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        output="self_attn.o_proj",
        attention_norm="post_attention_layernorm",
        gate="mlp.gate_proj",
        up="mlp.up_proj",
        down="mlp.down_proj",
        mlp_norm="post_mlp_layernorm",
        rotary="rotary_emb",
        head=(),
    ),
}
_PADDED_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose positions begin after that of padding."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A model, as far as its configuration says."""

    family: Family
    layers: int
    heads: int
    activation: str
    kinds: tuple[str, ...]
    """Kind of attention of each layer."""
    window: int
    """Of sliding attention, to each side."""


def packed_facts(config: PretrainedConfig) -> Facts | None:
    """The facts of a model, or None where the packed encoder doesn't cover it."""
    values: dict[str, Any] = config.to_dict()
    family = FAMILIES.get(str(values.get("model_type")))
    if family is None:
        return None
    activation = ACTIVATIONS.get(
        str(
            values.get("hidden_activation")
            or values.get("activation")
            or values.get("hidden_act")
            or ""
        )
    )
    other = (
        values.get("is_decoder")
        or values.get("add_cross_attention")
        or values.get("position_embedding_type", "absolute") not in ("absolute", None)
        or values.get("use_task_id")
    )
    if activation is None or other:
        return None
    layers = int(config.num_hidden_layers)
    kinds = tuple(values.get("layer_types") or [FULL] * layers)
    if set(kinds) - {FULL, SLIDING}:
        return None
    if values["model_type"] in _PADDED_POSITIONS:
        family = replace(family, first_position=int(values.get("pad_token_id") or 0) + 1)
    window = int(getattr(config, "sliding_window", None) or 0) if SLIDING in kinds else 0
    return Facts(
        family=family,
        layers=layers,
        heads=int(config.num_attention_heads),
        activation=activation,
        kinds=kinds,
        window=window,
    )


def native_context(config: PretrainedConfig) -> int:
    """Most tokens that the weights hold; 0 where the configuration doesn't say."""
    length = int(getattr(config, "max_position_embeddings", None) or 0)
    kind = str(config.model_type)
    if kind in _PADDED_POSITIONS:
        length -= int(getattr(config, "pad_token_id", None) or 0) + 1
    elif kind in FAMILIES:
        length -= FAMILIES[kind].first_position
    return max(0, length)

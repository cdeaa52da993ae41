"""The network as training sees it: a lean Llama whose weights carry the Hugging Face names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from starters.chat.recipe.tokenizer import CONTEXT, VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the network."""

    width: int = 256
    layers: int = 8
    heads: int = 4
    inner: int = 704
    vocabulary: int = VOCABULARY
    context: int = CONTEXT
    theta: float = 1_000_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads


SHAPE: Final = Shape()


def _matrix(rows: int, columns: int, scale: float) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) * scale)


class Layer(nn.Module):
    """Attention and a gated feed-forward network, each on a normalised residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner, scale = shape.width, shape.inner, shape.width**-0.5
        self.shape = shape
        self.norm_in = nn.Parameter(torch.ones(width))
        self.norm_out = nn.Parameter(torch.ones(width))
        self.q, self.k, self.v = (_matrix(width, width, scale) for _ in range(3))
        self.o = nn.Parameter(torch.zeros(width, width))
        self.gate, self.up = (_matrix(inner, width, scale) for _ in range(2))
        self.down = nn.Parameter(torch.zeros(width, inner))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, bias: Tensor) -> Tensor:
        """x is [rows, length, width]; bias [rows, 1, length, length] hides what is not visible."""
        shape = self.shape
        h = _norm(x, self.norm_in, shape.epsilon)
        split = (*x.shape[:2], shape.heads, shape.head)
        q = _rotate(_linear(h, self.q).view(split), cos, sin).transpose(1, 2)
        k = _rotate(_linear(h, self.k).view(split), cos, sin).transpose(1, 2)
        v = _linear(h, self.v).view(split).transpose(1, 2)
        scores = torch.matmul(q, k.transpose(-1, -2)) * shape.head**-0.5 + bias
        mixed = torch.matmul(torch.softmax(scores.float(), -1).to(v.dtype), v)
        x = x + _linear(mixed.transpose(1, 2).reshape(x.shape), self.o)
        h = _norm(x, self.norm_out, shape.epsilon)
        return x + _linear(functional.silu(_linear(h, self.gate)) * _linear(h, self.up), self.down)


class Network(nn.Module):
    """A decoder with tied embeddings; calculates in `dtype` on fp32 weights."""

    def __init__(self, shape: Shape = SHAPE, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.embedding = _matrix(shape.vocabulary, shape.width, 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.width))

    def forward(
        self,
        tokens: Tensor,
        owner: Tensor,
        position: Tensor,
        at: Tensor,
        target: Tensor,
        weight: Tensor,
    ) -> Tensor:
        """The mean loss over the supervised positions of packed rows."""
        shape, dtype, device = self.shape, self.dtype, tokens.device
        length = tokens.shape[1]
        frequency = shape.theta ** (-torch.arange(0, shape.head, 2, device=device) / shape.head)
        angle = position[..., None, None].float() * frequency
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        order = torch.arange(length, device=device)
        visible = (owner[:, :, None] == owner[:, None, :]) & (order[:, None] >= order[None, :])
        bias = torch.where(visible, 0.0, -30_000.0).to(dtype)[:, None]
        x = functional.embedding(tokens, self.embedding).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, bias)
        x = _norm(x, self.norm, shape.epsilon).view(-1, shape.width)[at]
        logits = _linear(x, self.embedding).float()
        loss = functional.cross_entropy(logits, target, reduction="none")
        return (loss * weight).sum() / weight.sum()


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(x, weight.to(x.dtype))


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * weight).to(x.dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


_NAMES: Final = {
    "norm_in": "input_layernorm",
    "norm_out": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def named_weights(network: Network) -> dict[str, Tensor]:
    """The weights in bf16 under the names that LlamaForCausalLM gives them."""
    found = {"model.embed_tokens.weight": network.embedding, "model.norm.weight": network.norm}
    for i, layer in enumerate(network.layers):
        for ours, theirs in _NAMES.items():
            found[f"model.layers.{i}.{theirs}.weight"] = getattr(layer, ours)
    return {name: weight.detach().bfloat16().cpu().contiguous() for name, weight in found.items()}


def llama_config(shape: Shape, eos: int, pad: int) -> dict[str, Any]:
    """The network as a LlamaConfig."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "initializer_range": 0.02,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.context,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "rope_parameters": {"rope_theta": shape.theta, "rope_type": "default"},
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": shape.vocabulary,
    }

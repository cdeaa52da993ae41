"""Makes a compact decoder out of a model that transformers has loaded, and proves it equal.

Weights move tensor by tensor: a layer's originals are dropped before the next layer is taken, so
that at no time there are two copies of more than a layer.
"""

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from services.inference.engines.decoder import Decoder, HeadNorm, Layer, Norm, Weights
from services.inference.engines.decoder_attention import Rotary
from services.inference.engines.decoder_facts import DecoderFacts
from services.inference.engines.decoder_linear import (
    EIGHT_BITS,
    Form,
    Projection,
    Source,
    fastest_form,
)

_log = logging.getLogger(__name__)

PROMPT_LENGTHS = (24, 12)
"""Few rows and more: weights in eight bits are multiplied in different ways."""
TOLERANCE = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 8e-2}
"""Largest difference of logits at half of the positions, as a share of their norm."""
TIPPED = 5
"""How many times as far all positions together may differ: rounding decides for heads that are torn
between two tokens. The starter comes to three times, in bf16 on random tokens."""
LOSS_ALLOWED = {Form.FP8: 0.25, Form.INT8: 0.1}
"""The same for what eight bits lose: one and a half times to twice the most that was measured."""
TIED_HEAD_BYTES = 256 * 2**20
"""A head that shares the embedding's weights gets a blocked copy of its own up to this size: it is
read whole at every step, and memory beyond it is dearer than that time."""


def replace_by_decoder(
    model: PreTrainedModel,
    facts: DecoderFacts,
    *,
    eight: Form | None = None,
    device: torch.device | None = None,
) -> Decoder | None:
    """Takes a model's weights out of it and makes a compact decoder of them.

    Returns None when the decoder does not compute what the model did. The model is used up in any
    case.

    Args:
        model: where to take them from.
        facts: what it is.
        eight: how to keep the matrices of the layers in eight bits. None: they keep their type.
        device: where the decoder shall be; weights go there layer by layer. None: where they are.
    """
    try:
        whole = expected = _logits(model, model.config)
        if eight:  # first beside a model with the same weights: what they lose would hide errors
            round_matrices(model, facts, eight)
            expected = _logits(model, model.config)
        decoder = build_decoder(model, facts, eight=eight, device=device)
        difference = _difference(decoder, expected)
        typical = _difference(decoder, expected, typical=True)
    except Exception:
        _log.exception("the compact decoder can't run this %s model", model.config.model_type)
        return None
    # In eight bits products are rounded as in bfloat16, whatever else is computed in.
    allowed = TOLERANCE[torch.bfloat16 if eight else decoder.dtype]
    if not (typical < allowed and difference < TIPPED * allowed):  # NaN neither
        _log.warning(
            "the compact decoder's logits differ from transformers' by %.2g of their norm, at half "
            "of the positions by %.2g, for this %s model: it can't run there",
            difference,
            typical,
            model.config.model_type,
        )
        return None
    return decoder if eight is None or _keeps_enough(decoder, whole, eight) else None


def _keeps_enough(decoder: Decoder, expected: Tensor, eight: Form) -> bool:
    """Has a decoder multiply in eight bits where it can; false where its logits get too far off."""
    for projection in decoder.projections:
        projection.narrow()
    loss, allowed = _difference(decoder, expected), LOSS_ALLOWED[eight]
    text = "in %s the logits of this %s model differ by %.2g of their norm, %.2g are allowed"
    enough = loss < allowed
    level, kind = logging.INFO if enough else logging.WARNING, decoder.config.model_type
    _log.log(level, text, eight.value, kind, loss, allowed)
    return enough


@torch.no_grad()
def round_matrices(model: PreTrainedModel, facts: DecoderFacts, eight: Form) -> None:
    """Gives the matrices of a model's layers the numbers that they are in eight bits."""
    rounded = EIGHT_BITS[eight]
    for index in range(facts.layers):
        for name in facts.layout.matrices:
            rounded(_weight(model.get_submodule(f"{facts.layout.layers}.{index}.{name}")))


@torch.no_grad()
def build_decoder(
    model: PreTrainedModel,
    facts: DecoderFacts,
    *,
    eight: Form | None = None,
    device: torch.device | None = None,
) -> Decoder:
    """Moves a model's weights into a compact decoder; the model is used up.

    Embedding and head keep their number type also with `eight`: what they lose is lost to every
    token.
    """
    layout = facts.layout
    device = device or model.device

    def module(path: str) -> nn.Module:
        return _to(model.get_submodule(path), device)

    embedding = _weight(module(layout.embedding))
    positions = None if layout.positions is None else module(layout.positions)
    rotary = {} if layout.rotary is None else _rotary(module(layout.rotary), facts)
    layers: list[Layer] = []
    for index in range(facts.layers):
        module(f"{layout.layers}.{index}")
        layers.append(_layer(model, facts, index, rotary=bool(rotary), eight=eight))
    head = module(layout.head)
    weight = _weight(head)
    tied = weight.data_ptr() == embedding.data_ptr()
    whole = tied and weight.nbytes > TIED_HEAD_BYTES
    weights = Weights(
        embedding=embedding,
        positions=None if positions is None else _weight(positions),
        layers=layers,
        norm=_norm(module(layout.final_norm), facts),
        head=Projection(
            weight, _bias(head), (), form=Form.PLAIN if whole else fastest_form(weight)
        ),
        rotary=rotary,
    )
    config = model.config
    _empty(model)
    return Decoder(config, facts, weights)


def _to(module: nn.Module, device: torch.device) -> nn.Module:
    return cast("Any", module).to(device)


def _layer(
    model: PreTrainedModel, facts: DecoderFacts, index: int, *, rotary: bool, eight: Form | None
) -> Layer:
    layout = facts.layout
    root = f"{layout.layers}.{index}"
    module = model.get_submodule(root)

    def norm(name: str | None) -> Norm | None:
        return None if name is None else _norm(module.get_submodule(name), facts)

    def projection(*names: str, rows: slice | Tensor | None = None) -> Projection:
        return _projection(
            model,
            [
                Source(f"{root}.{name}", _outputs(module.get_submodule(name)), rows)
                for name in names
            ],
            eight=eight,
        )

    gate_rows = up_rows = None
    if layout.gate == layout.up:
        middle = _outputs(module.get_submodule(layout.up)) // 2
        gate_rows, up_rows = slice(middle), slice(middle, None)
    before_attention = norm(layout.before_attention)
    assert before_attention is not None
    layer = Layer(
        qkv=projection(*layout.qkv, rows=_by_kind(facts) if layout.qkv_by_head else None),
        output=projection(layout.output),
        gate=projection(layout.gate, rows=gate_rows) if layout.gate else None,
        up=projection(layout.up, rows=up_rows),
        down=projection(layout.down),
        before_attention=before_attention,
        after_attention=norm(layout.after_attention),
        before_mlp=norm(layout.before_mlp),
        after_mlp=norm(layout.after_mlp),
        head_norm=_head_norm(module, facts),
        kind=facts.kinds[index],
        scale=float(cast("Any", module.get_submodule(layout.attention)).scaling),
        rotates=rotary and facts.rotates[index],
    )
    _empty(module)
    return layer


def _projection(model: PreTrainedModel, sources: list[Source], *, eight: Form | None) -> Projection:
    modules = [model.get_submodule(source.path) for source in sources]
    parts = [source.take(_weight(m)) for source, m in zip(sources, modules, strict=True)]
    weight = parts[0] if len(parts) == 1 else torch.cat(parts)
    biases = [_bias(module) for module in modules]
    bias: Tensor | None = None
    if any(b is not None for b in biases):
        bias = torch.cat(
            [
                weight.new_zeros(len(part)) if b is None else source.take(b)
                for source, part, b in zip(sources, parts, biases, strict=True)
            ]
        )
    widths = tuple((source, len(part)) for source, part in zip(sources, parts, strict=True))
    form = eight or fastest_form(weight)
    return Projection(weight.contiguous(), bias, widths, form=form)


def _by_kind(facts: DecoderFacts) -> Tensor:
    """Rows of a matrix that is ordered by heads, in the order all queries, all keys, all values."""
    rows = torch.arange(3 * facts.heads * facts.head_dim)
    return rows.view(facts.heads, 3, facts.head_dim).transpose(0, 1).reshape(-1)


def _weight(module: nn.Module) -> Tensor:
    """`[outputs, inputs]` of a linear layer, whichever way it keeps them."""
    weight = cast("Tensor", module.weight).detach()
    return weight.t() if isinstance(module, Conv1D) else weight


def _bias(module: nn.Module) -> Tensor | None:
    bias = cast("Tensor | None", getattr(module, "bias", None))
    return None if bias is None else bias.detach()


def _outputs(module: nn.Module) -> int:
    return len(_weight(module))


def _norm(module: nn.Module, facts: DecoderFacts) -> Norm:
    weight = cast("Tensor", module.weight).detach()
    centred = isinstance(module, nn.LayerNorm)
    if facts.norm_offset and not centred:
        weight = weight.float() + facts.norm_offset
    return Norm(weight, _bias(module), facts.epsilon, centred)


def _head_norm(layer: nn.Module, facts: DecoderFacts) -> HeadNorm | None:
    layout = facts.layout
    if layout.query_norm is None or layout.key_norm is None:
        return None
    query, key = (
        cast("Tensor", layer.get_submodule(name).weight).detach().float() + facts.norm_offset
        for name in (layout.query_norm, layout.key_norm)
    )
    weight = torch.cat((query.expand(facts.heads, -1), key.expand(facts.kv_heads, -1)))
    return HeadNorm(weight, facts.epsilon)


def _rotary(module: nn.Module, facts: DecoderFacts) -> dict[str, Rotary]:
    """The frequencies that transformers has computed, by kind of attention."""
    found: dict[str, Rotary] = {}
    for kind in set(facts.kinds):
        prefix = f"{kind}_" if hasattr(module, f"{kind}_inv_freq") else ""
        frequencies = cast("Tensor", getattr(module, f"{prefix}inv_freq"))
        scale = float(getattr(module, f"{prefix}attention_scaling"))
        found[kind] = Rotary(frequencies.float(), scale)
    return found


def _empty(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)


@torch.inference_mode()
def _logits(
    model: PreTrainedModel | Decoder, config: PretrainedConfig, length: int = PROMPT_LENGTHS[0]
) -> Tensor:
    """Logits of a random prompt, `[positions, vocabulary]`; a shorter one begins alike."""
    native = int(getattr(config, "max_position_embeddings", None) or PROMPT_LENGTHS[0])
    prompt = torch.randint(
        int(config.vocab_size),
        (1, min(PROMPT_LENGTHS[0], native)),
        generator=torch.Generator().manual_seed(3),
    )[:, :length]
    return cast("Any", model)(prompt.to(model.device), use_cache=False).logits[0].float().cpu()


def _difference(decoder: Decoder, expected: Tensor, *, typical: bool = False) -> float:
    """Largest distance of a decoder's logits from those expected, as a share of their norm: of all
    positions together, or the median of each for itself."""
    differences: list[Tensor] = []
    for length in PROMPT_LENGTHS:
        own = _logits(decoder, decoder.config, length)
        wanted = expected[: len(own)]
        over = -1 if typical else (0, 1)
        distance = (own - wanted).square().sum(over).sqrt()
        share = distance / wanted.square().sum(over).sqrt().clamp(min=1e-6)
        differences.append(share.median())
    return float(torch.stack(differences).max())

"""What a model's configuration says about how it can be served."""

from typing import Any, cast

import torch
from transformers import GenerationConfig, PretrainedConfig

from services.errors import FailedPrecondition
from services.inference.engines.masks import FULL, SLIDING, Masks

LENGTH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})


def check_architecture(config: PretrainedConfig) -> None:
    """Refuses architectures that this engine can't run correctly.

    Raises:
        FailedPrecondition: it is no decoder, or has layers that are no attention.
    """
    if config.is_encoder_decoder:
        raise FailedPrecondition(
            f"{config.model_type} is an encoder-decoder; this engine runs "
            f"decoder-only language models."
        )
    other = layer_kinds(config) - {FULL, SLIDING}
    if other:
        raise FailedPrecondition(
            f"{config.model_type} has layers of the kind {', '.join(sorted(other))}; this engine "
            f"runs models whose layers are all full or sliding attention."
        )


def layer_kinds(config: PretrainedConfig) -> frozenset[str]:
    """Kinds of attention among the layers."""
    layer_types = cast("list[str] | None", getattr(config, "layer_types", None))
    if layer_types:
        return frozenset(layer_types)
    window = getattr(config, "sliding_window", None)
    sliding = window and getattr(config, "use_sliding_window", True)
    return frozenset({SLIDING if sliding else FULL})


def attention_masks(config: PretrainedConfig, *, dtype: torch.dtype, boolean: bool) -> Masks:
    """The masks of a model's layers."""
    return Masks(
        kinds=layer_kinds(config),
        window=int(getattr(config, "sliding_window", None) or 0),
        additive=None if boolean else dtype,
    )


def attention_implementation(config: PretrainedConfig) -> str:
    """The fastest of transformers' implementations that computes this model right."""
    # Soft-capped scores exist in the eager one only.
    return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"


def native_context(config: PretrainedConfig) -> int:
    """Most tokens that the weights hold; 0 when the configuration doesn't say."""
    length = int(getattr(config, "max_position_embeddings", None) or 0)
    for parameters in _rope_parameters(config):
        if parameters.get("rope_type") in LENGTH_DEPENDENT_ROPE:
            # Past the original length these rotate every position of a batch by its longest
            # sequence: then a sequence's tokens would depend on its mates.
            original = parameters.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            length = min(length, int(original or length))
    return length


def context_length(config: PretrainedConfig, *, wanted: int, most: int) -> int:
    """The context to serve.

    Args:
        config: the model's configuration.
        wanted: what was asked for; 0 is as much as there is.
        most: bound where nothing was asked for; 0 is none.

    Raises:
        FailedPrecondition: more is wanted than the weights hold.
    """
    native = native_context(config)
    if native and wanted > native:
        raise FailedPrecondition(
            f"A context of {wanted} tokens was asked for, but these weights hold {native}: "
            f"ask for at most that."
        )
    lengths = [length for length in (native, wanted or most) if length]
    if not lengths:
        raise FailedPrecondition(
            "config.json does not say how long the context is (max_position_embeddings): "
            "give the model a context length."
        )
    return min(lengths)


def end_tokens(
    config: PretrainedConfig, generation: GenerationConfig | None, tokenizer_eos: int | None
) -> frozenset[int]:
    """All tokens that end an answer."""
    found: set[int] = set()
    for source in (config, generation):
        value: Any = getattr(source, "eos_token_id", None)
        if value is not None:
            found.update(cast("list[int]", value) if isinstance(value, list) else [int(value)])
    if tokenizer_eos is not None:
        found.add(tokenizer_eos)
    return frozenset(found)


def _rope_parameters(config: PretrainedConfig) -> list[dict[str, Any]]:
    parameters = cast("dict[str, Any]", getattr(config, "rope_parameters", None) or {})
    nested = [cast("dict[str, Any]", p) for p in parameters.values() if isinstance(p, dict)]
    return nested or [parameters]

"""Loads a model's weights: into the compact decoder where it knows the architecture, else into
transformers' own code."""

import logging
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel

from services.errors import FailedPrecondition
from services.inference.engines.architecture import attention_implementation, attention_masks
from services.inference.engines.decoder import Decoder
from services.inference.engines.decoder_build import replace_by_decoder
from services.inference.engines.decoder_facts import decoder_facts
from services.inference.engines.masks import Masks
from services.weights.folder import ModelFolder

_log = logging.getLogger(__name__)

DECODERS = ("auto", "transformers")


@dataclass(frozen=True, slots=True)
class CausalModel:
    """A model that is ready to run."""

    model: PreTrainedModel | Decoder
    masks: Masks
    """Makes the masks that it takes."""
    generation: GenerationConfig | None
    parameter_count: int

    @property
    def compact(self) -> bool:
        """Whether it runs on the compact decoder."""
        return isinstance(self.model, Decoder)


def load_model(
    folder: ModelFolder,
    config: PretrainedConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    decoder: str = "auto",
) -> CausalModel:
    """Loads a model.

    Args:
        folder: its folder.
        config: its configuration.
        device: where it shall run.
        dtype: the number type of its weights.
        decoder: `auto` or `transformers`, which never takes the compact decoder.

    Raises:
        FailedPrecondition: the weights are broken or belong to another configuration.
    """
    if decoder not in DECODERS:
        raise FailedPrecondition(f"Unknown decoder “{decoder}”: use {' or '.join(DECODERS)}.")
    model = _transformers_model(folder, config, device, dtype)
    count = sum(parameter.numel() for parameter in model.parameters())
    generation = cast("GenerationConfig | None", model.generation_config)
    facts = decoder_facts(config) if decoder == "auto" else None
    if facts is not None:
        compact = replace_by_decoder(model, facts)
        if compact is not None:
            masks = attention_masks(config, dtype=dtype, boolean=False)
            return CausalModel(compact, masks, generation, count)
        del model  # used up: its memory has to be free before the weights are read again
        model = _transformers_model(folder, config, device, dtype)
    boolean = model.config._attn_implementation != "eager"  # pyright: ignore[reportPrivateUsage]
    masks = attention_masks(config, dtype=dtype, boolean=boolean)
    return CausalModel(model, masks, generation, count)


def _transformers_model(
    folder: ModelFolder, config: PretrainedConfig, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    try:
        model, report = _from_pretrained(folder, config, dtype, attention_implementation(config))
    except Exception as error:
        _log.exception("weights can't be loaded")
        raise FailedPrecondition(
            "The weights can't be loaded with this config.json: deploy a folder whose config.json "
            "and safetensors belong together; the server's log has the details."
        ) from error
    missing = sorted(cast("set[str]", report.get("missing_keys") or ()))
    if missing:
        raise FailedPrecondition(
            f"The weights lack {len(missing)} tensors that {config.model_type} needs "
            f"({missing[0]} …): deploy a folder whose config.json and safetensors belong together."
        )
    cast("Any", model).to(device)
    return model.eval().requires_grad_(False)


def _from_pretrained(
    folder: ModelFolder, config: PretrainedConfig, dtype: torch.dtype, implementation: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        loaded: Any = cast("Any", AutoModelForCausalLM).from_pretrained(
            folder.path,
            config=config,
            dtype=dtype,
            attn_implementation=implementation,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except ValueError:
        if implementation == "eager":
            raise
        # Architectures without this implementation say so by a ValueError.
        return _from_pretrained(folder, config, dtype, "eager")
    return loaded

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
from services.inference.engines.decoder_facts import DecoderFacts, decoder_facts
from services.inference.engines.decoder_linear import Form
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
    eight: Form | None = None,
) -> CausalModel:
    """Loads a model.

    Args:
        folder: its folder.
        config: its configuration.
        device: where it shall run.
        dtype: the number type of its weights.
        decoder: `auto` or `transformers`, which never takes the compact decoder.
        eight: how to keep the matrices of the layers in eight bits; as `check_eight_bits` allows.

    Raises:
        FailedPrecondition: the weights are broken or belong to another configuration, or can't be
            kept in eight bits.
    """
    facts = compact_facts(config, decoder)
    if eight is Form.FP8 and device.type == "cpu":
        _log.warning(
            "fp8 weights on a processor halve their memory, but are many times slower: take int8"
        )
    # On their way into eight bits weights don't have to fit on the device in sixteen.
    model = _transformers_model(folder, config, torch.device("cpu") if eight else device, dtype)
    count = sum(parameter.numel() for parameter in model.parameters())
    generation = cast("GenerationConfig | None", model.generation_config)
    if facts is not None:
        compact = replace_by_decoder(model, facts, eight=eight, device=device)
        if compact is None and eight:
            raise FailedPrecondition(
                f"In {eight.value} this {config.model_type} model does not compute what it does in "
                f"{_name(dtype)}, or too little of it; the server's log has the figures. Deploy it "
                f"in {_name(dtype)}."
            )
        if compact is not None:
            masks = attention_masks(config, dtype=dtype, boolean=False)
            return CausalModel(compact, masks, generation, count)
        del model  # used up: its memory has to be free before the weights are read again
        model = _transformers_model(folder, config, device, dtype)
    boolean = model.config._attn_implementation != "eager"  # pyright: ignore[reportPrivateUsage]
    masks = attention_masks(config, dtype=dtype, boolean=boolean)
    return CausalModel(model, masks, generation, count)


def compact_facts(config: PretrainedConfig, decoder: str) -> DecoderFacts | None:
    """What the compact decoder knows of a model; None where transformers' own code shall run it.

    Raises:
        FailedPrecondition: there is no such decoder.
    """
    if decoder not in DECODERS:
        raise FailedPrecondition(f"Unknown decoder “{decoder}”: use {' or '.join(DECODERS)}.")
    return decoder_facts(config) if decoder == "auto" else None


def check_eight_bits(
    config: PretrainedConfig, decoder: str, eight: Form, dtype: torch.dtype
) -> DecoderFacts:
    """The facts of a model that shall have weights in eight bits.

    Raises:
        FailedPrecondition: it would run on transformers' code, which has no such weights here.
    """
    facts = compact_facts(config, decoder)
    if facts is None:
        reason = (
            'the setting decoder = "transformers" switches that off'
            if decoder != "auto"
            else f"{config.model_type} does not run on that with this config.json"
        )
        raise FailedPrecondition(
            f"Weights in {eight.value} need this engine's own decoder, and {reason}: deploy the "
            f"model in {_name(dtype)}."
        )
    return facts


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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

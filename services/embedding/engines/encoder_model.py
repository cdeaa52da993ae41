"""Loads the weights of an encoder: into the packed encoder where it knows the architecture, else
into transformers' own code."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

from services.embedding.engine import Tokens
from services.embedding.engines.encoder_check import TOLERANCE, differs
from services.embedding.engines.packed_build import Head, build_head, build_packed
from services.embedding.engines.packed_encoder import PackedEncoder
from services.embedding.engines.packed_facts import Facts, packed_facts
from services.embedding.engines.padded_encoder import PaddedEncoder
from services.embedding.engines.rows import Row
from services.errors import FailedPrecondition
from services.weights.folder import ModelFolder

_log = logging.getLogger(__name__)

ENCODERS = ("auto", "transformers")


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """A model that is ready to run."""

    states: Callable[[Row], Tensor]
    """The states of a row's tokens, `[tokens, width]`."""
    logits: Callable[[Row], Tensor] | None
    """Scores of a row's pairs before they are squeezed into [0, 1], `[inputs]`; of a cross-encoder
    only."""
    packed: bool
    parameter_count: int
    width: int


def has_own_encoder(config: PretrainedConfig) -> bool:
    """Whether it is an encoder-decoder whose encoder transformers loads alone, such as T5."""
    names = cast("dict[str, str]", MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES)
    return names.get(str(config.model_type), "").endswith("EncoderModel")


class ModelLoading:
    """Loads one model.

    Args:
        folder: its folder.
        config: its configuration.
        device: where it shall run.
        dtype: the number type of its weights.
        scores_pairs: whether a cross-encoder is wanted.
        types: whether its tokenizer tells the texts of a pair apart.
        samples: inputs that prove it.
    """

    def __init__(
        self,
        folder: ModelFolder,
        config: PretrainedConfig,
        device: torch.device,
        dtype: torch.dtype,
        *,
        scores_pairs: bool,
        types: bool,
        samples: Sequence[Tokens],
    ) -> None:
        self._folder = folder
        self._config = config
        self._device = device
        self._dtype = dtype
        self._scores_pairs = scores_pairs
        self._types = types
        self._samples = samples

    def load(self, encoder: str = "auto") -> EncoderModel:
        """Loads it; `encoder` is `auto` or `transformers`.

        Raises:
            FailedPrecondition: the weights are broken or belong to another configuration, or the
                model computes something else in a batch than alone.
        """
        if encoder not in ENCODERS:
            raise FailedPrecondition(f"Unknown encoder “{encoder}”: use {' or '.join(ENCODERS)}.")
        model = self.transformers_model()
        pad = int(getattr(self._config, "pad_token_id", None) or 0)
        padded = PaddedEncoder(model, pad=pad, types=self._types)
        width = int(self._config.hidden_size)
        count = sum(parameter.numel() for parameter in model.parameters())
        facts = packed_facts(self._config) if encoder == "auto" else None
        if facts is not None and (packed := self._packed(model, padded, facts)) is not None:
            states, logits = packed
            return EncoderModel(states, logits, True, count, width)
        own = padded.logits if self._scores_pairs else padded
        self._check_padding(own)
        logits = padded.logits if self._scores_pairs else None
        return EncoderModel(padded, logits, False, count, width)

    def _packed(
        self, model: PreTrainedModel, padded: PaddedEncoder, facts: Facts
    ) -> tuple[PackedEncoder, Callable[[Row], Tensor] | None] | None:
        try:
            base = model.base_model if self._scores_pairs else model
            packed = build_packed(cast("PreTrainedModel", base), facts)
            logits = None
            if self._scores_pairs:
                head = build_head(model, facts)
                if head is None:
                    return None
                logits = _first_tokens(packed, head)
            difference = self._differs(
                logits or packed, padded.logits if self._scores_pairs else padded
            )
        except Exception:
            _log.exception("the packed encoder can't run this %s model", self._config.model_type)
            return None
        if not difference < TOLERANCE[self._dtype]:
            _log.warning(
                "the packed encoder differs from transformers by %.2g of the norm for this %s "
                "model: it runs on transformers' code, which is slower",
                difference,
                self._config.model_type,
            )
            return None
        return packed, logits

    def _check_padding(self, own: Callable[[Row], Tensor]) -> None:
        kind = self._config.model_type
        try:
            difference = self._differs(own, own)
        except Exception as error:
            _log.exception("the check of a model's forward pass failed")
            raise FailedPrecondition(
                f"{kind} can't be run on texts alone by this engine; the server's log has the "
                f"details."
            ) from error
        if not difference < TOLERANCE[self._dtype]:
            _log.error("states differ by %s of their norm between batches and alone", difference)
            raise FailedPrecondition(
                f"{kind} does not compute the same in batches as by itself, so this engine can't "
                f"serve it; the server's log has the details."
            )

    def _differs(self, own: Callable[[Row], Tensor], reference: Callable[[Row], Tensor]) -> float:
        least = 1.0 if self._scores_pairs else 1e-6
        return differs(own, reference, self._samples, self._device, least_norm=least)

    def transformers_model(self) -> PreTrainedModel:
        """The model as transformers runs it. Raises as `load` does."""
        if self._scores_pairs and getattr(self._config, "pad_token_id", None) is None:
            self._config.pad_token_id = 0  # causal classifiers find an input's end by it
        kind = self._config.model_type
        try:
            model, report = self._from_pretrained("sdpa")
        except FailedPrecondition:
            raise
        except Exception as error:
            _log.exception("weights can't be loaded")
            raise FailedPrecondition(
                "The weights can't be loaded with this config.json: deploy a folder whose "
                "config.json and safetensors belong together; the server's log has the details."
            ) from error
        missing = sorted(
            key
            for key in cast("set[str]", report.get("missing_keys") or ())
            if self._scores_pairs or not key.startswith("pooler.")  # vectors don't need it
        )
        if missing:
            raise FailedPrecondition(
                f"The weights lack {len(missing)} tensors that {kind} needs ({missing[0]} …): "
                f"deploy a folder whose config.json and safetensors belong together."
            )
        cast("Any", model).to(self._device)
        return model.eval().requires_grad_(False)

    def _from_pretrained(self, attention: str) -> tuple[PreTrainedModel, dict[str, Any]]:
        try:
            loaded: Any = cast("Any", self._class()).from_pretrained(
                self._folder.path,
                config=self._config,
                dtype=self._dtype,
                attn_implementation=attention,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except ValueError:
            if attention == "eager":
                raise
            # Architectures without this implementation say so by a ValueError.
            return self._from_pretrained("eager")
        return loaded

    def _class(self) -> type[Any]:
        if self._scores_pairs:
            return AutoModelForSequenceClassification
        return AutoModelForTextEncoding if has_own_encoder(self._config) else AutoModel


def _first_tokens(packed: PackedEncoder, head: Head) -> Callable[[Row], Tensor]:
    """Logits of the states of first tokens."""

    def logits(row: Row) -> Tensor:
        starts = torch.tensor(row.starts, device=packed.device)
        return head(packed(row)[starts]).float()

    return logits

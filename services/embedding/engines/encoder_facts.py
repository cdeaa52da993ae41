"""What a folder says of its encoder, before weights are loaded: its kind, lengths and pooling."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from services.embedding.engines.encoder_model import has_own_encoder
from services.embedding.engines.packed_facts import native_context
from services.embedding.engines.sentence_files import (
    DenseFolder,
    Normalizing,
    SentenceFiles,
    read_sentence_files,
)
from services.errors import FailedPrecondition
from services.weights.configuration import load_config
from services.weights.folder import ModelFolder, digest, find_weights, read_json

_UNBOUNDED = 10**6
"""A tokenizer's length from here on means that it knows none."""
_SQUEEZED = frozenset({"Sigmoid", "Identity"})
"""Activations of a cross-encoder that a sigmoid stands for: scores keep their order."""


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """A folder that was checked."""

    source: Path
    files: SentenceFiles
    folder: ModelFolder
    """Of the transformer itself."""
    config: PretrainedConfig
    context_length: int
    modes: tuple[str, ...]
    """How states are pooled."""

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the weights know."""
        return int(self.config.vocab_size)

    @property
    def normalizes(self) -> bool:
        """Whether vectors are scaled to length 1 at the end."""
        return bool(self.files.after) and isinstance(self.files.after[-1], Normalizing)

    @property
    def dimensions(self) -> int:
        """Length of the vectors, as the configurations say."""
        found = len(self.modes) * int(self.config.hidden_size)
        for part in self.files.after:
            if isinstance(part, DenseFolder):
                found = int(read_json(part.path / "config.json").get("out_features") or found)
        return found

    def digest(self) -> str:
        """Identifies weights and configurations."""
        dense = [part.path for part in self.files.after if isinstance(part, DenseFolder)]
        weights = [*self.folder.weights, *(file for path in dense for file in find_weights(path))]
        return digest(self.source, weights)


def read_facts(
    source: Path, *, context_length: int, scores_pairs: bool, needs_weights: bool = True
) -> EncoderFacts:
    """Reads and checks a folder.

    Args:
        source: of the model.
        context_length: what is asked for; 0 takes what the folder says.
        scores_pairs: whether a cross-encoder is wanted.
        needs_weights: whether the weights have to be there; if they are, they are checked.

    Raises:
        FailedPrecondition: it is broken, or of another kind than is wanted.
    """
    files = read_sentence_files(source)
    there = any(files.transformer.glob("*.safetensors"))
    folder = ModelFolder(files.transformer, needs_weights=needs_weights or there)
    config = load_config(folder)
    _check_kind(config, files, scores_pairs=scores_pairs)
    context = _context_length(config, folder, files, context_length)
    return EncoderFacts(
        source, files, folder, config, context, files.modes or _usual_pooling(config)
    )


def _check_kind(config: PretrainedConfig, files: SentenceFiles, *, scores_pairs: bool) -> None:
    """Refuses a folder that is of the other kind, or that no vector or score can be had of."""
    kind = str(config.model_type)
    classifies = any(
        str(name).endswith("ForSequenceClassification")
        for name in cast("list[Any]", config.architectures or [])
    )
    if not scores_pairs:
        if classifies and not files.modes:
            raise FailedPrecondition(
                "This folder holds a cross-encoder, which scores pairs and makes no vectors: "
                "deploy it with kind RERANK."
            )
        if config.is_encoder_decoder and not has_own_encoder(config):
            raise FailedPrecondition(
                f"{kind} is an encoder-decoder whose encoder transformers does not load alone: "
                f"deploy an encoder."
            )
        return
    if files.modes:
        raise FailedPrecondition(
            "This folder holds an embedding model, which does not score pairs: deploy it with "
            "kind EMBEDDING; reranking by the similarity of its vectors needs nothing else."
        )
    if config.num_labels != 1:
        raise FailedPrecondition(
            f"This classifier has {config.num_labels} labels; a cross-encoder has one, the "
            f"relevance: deploy one of those."
        )
    given = config.to_dict()
    saved: Any = given.get("sentence_transformers") or {}
    activation = str(
        saved.get("activation_fn")
        or given.get("sbert_ce_default_activation_function")
        or "torch.nn.modules.activation.Sigmoid"
    )
    if activation.rsplit(".", 1)[-1] not in _SQUEEZED:
        raise FailedPrecondition(
            f"The cross-encoder's activation “{activation}” is not known here: it has to be "
            f"torch's Sigmoid or Identity."
        )


def _context_length(
    config: PretrainedConfig, folder: ModelFolder, files: SentenceFiles, wanted: int
) -> int:
    """The length to serve: what was asked for, else what the files say, within the weights."""
    native = native_context(config)
    if native and wanted > native:
        raise FailedPrecondition(
            f"A context of {wanted} tokens was asked for, but these weights hold {native}: ask "
            f"for at most that."
        )
    tokenizer: Any = folder.tokenizer_config.get("model_max_length") or 0
    said = files.max_length or (int(tokenizer) if 0 < tokenizer < _UNBOUNDED else 0)
    lengths = [length for length in (native, wanted or said) if length]
    if not lengths:
        raise FailedPrecondition(
            "The folder does not say how long an input may be (max_seq_length in "
            "sentence_bert_config.json): give the model a context length."
        )
    return min(lengths)


def _usual_pooling(config: PretrainedConfig) -> tuple[str, ...]:
    """How a bare transformer is pooled: what its states are trained for.

    The last token of a causal model has seen all others; encoders are averaged.
    """
    kind = str(config.model_type)
    named: Any = config.architectures or []
    causal = any(str(name).endswith(("ForCausalLM", "LMHeadModel")) for name in named) or (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    return ("lasttoken",) if causal and not config.is_encoder_decoder else ("mean",)

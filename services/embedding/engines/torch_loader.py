"""Loads Hugging Face encoders: safetensors only, no remote code, no network."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import torch
import transformers
from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from services.embedding.engine import EncoderInfo, EncoderSpec
from services.embedding.engines.dense import Finish
from services.embedding.engines.encoder_check import samples
from services.embedding.engines.encoder_model import ModelLoading, has_own_encoder
from services.embedding.engines.hf_text import load_tokenizer
from services.embedding.engines.packed_facts import native_context
from services.embedding.engines.sentence_files import SentenceFiles, read_sentence_files
from services.embedding.engines.torch_encoder import Machine, TorchEncoder
from services.embedding.engines.torch_settings import TorchSettings
from services.errors import FailedPrecondition
from services.weights.configuration import load_config
from services.weights.folder import ModelFolder, digest
from services.weights.processor import choose_device, choose_dtype

transformers.utils.logging.disable_progress_bar()

Progress = Callable[[float], None]

_UNBOUNDED = 10**6
"""A tokenizer's length from here on means that it knows none."""
_SQUEEZED = frozenset({"Sigmoid", "Identity"})
"""Activations of a cross-encoder that a sigmoid stands for: scores keep their order."""


class TorchLoader:
    """Makes torch encoders."""

    def __init__(self, settings: TorchSettings | None = None) -> None:
        self._settings = settings or TorchSettings()

    async def load(self, spec: EncoderSpec, progress: Progress) -> TorchEncoder:
        """Loads and checks a model on another thread."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        encoder = await asyncio.to_thread(self._load, spec, report)
        progress(1.0)
        return encoder

    def _load(self, spec: EncoderSpec, report: Progress) -> TorchEncoder:
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        files = read_sentence_files(spec.source)
        folder = ModelFolder(files.transformer)
        device = choose_device(settings.device)
        dtype = choose_dtype(
            spec.dtype if spec.dtype not in ("", "auto") else settings.dtype, device
        )
        config = load_config(folder)
        _check_kind(config, files, scores_pairs=spec.scores_pairs)
        context = _context_length(config, folder, files, spec.context_length)
        report(0.05)
        text = load_tokenizer(folder, lowercase=files.lowercase, pools_prefix=files.pools_prompt)
        report(0.15)
        vocabulary_size = int(config.vocab_size)
        loading = ModelLoading(
            folder,
            config,
            device,
            dtype,
            scores_pairs=spec.scores_pairs,
            types=text.pair_types,
            samples=samples(
                vocabulary_size=vocabulary_size,
                context_length=context,
                avoid=int(getattr(config, "pad_token_id", None) or 0),
                pairs=spec.scores_pairs,
            ),
        )
        model = loading.load(settings.encoder)
        report(0.9)
        modes = files.modes or _usual_pooling(config)
        finish = Finish(files.after, len(modes) * model.width, device)
        vectors = not spec.scores_pairs
        info = EncoderInfo(
            name="torch",
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            build=(
                f"torch-{torch.__version__}_transformers-{transformers.__version__}_"
                f"{'packed_' if model.packed else ''}"
                f"{digest(spec.source, [*folder.weights, *finish.files])}"
            ),
            context_length=context,
            vocabulary_size=vocabulary_size,
            parameter_count=model.parameter_count,
            dimensions=finish.dimensions if vectors else 0,
            shortening=vectors and files.shortening,
            normalizes=vectors and finish.normalizes,
            scores_pairs=spec.scores_pairs,
            prompts=dict(files.prompts) if vectors else {},
            default_prompt=files.default_prompt if vectors else "",
            batch_tokens=settings.batch_tokens,
        )
        return TorchEncoder(info, text, Machine(model, modes, finish, device))


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

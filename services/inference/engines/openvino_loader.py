"""Loads Hugging Face causal language models into OpenVINO GenAI: converted once, then cached."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, cast

import msgspec
import torch
from transformers import GenerationConfig, PretrainedConfig

from services.errors import FailedPrecondition
from services.inference.engine import EngineCapabilities, EngineInfo, LoadedModel, ModelSpec
from services.inference.engines.admission import Limits
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.architecture import (
    check_architecture,
    context_length,
    end_tokens,
    layer_kinds,
)
from services.inference.engines.hf_text import HFText
from services.inference.engines.masks import SLIDING
from services.inference.engines.memory_plan import CPU_SHARE, memory_needs, plan_kv
from services.inference.engines.openvino_cache import Converted, ConvertedModels
from services.inference.engines.openvino_engine import OpenVinoEngine
from services.inference.engines.openvino_link import WorkerLink
from services.inference.engines.openvino_messages import BLOCK, FromWorker, Start
from services.inference.engines.openvino_settings import OpenVinoSettings
from services.weights.configuration import load_config, load_tokenizer
from services.weights.folder import ModelFolder
from services.weights.memory import free_bytes
from services.weights.processor import choose_device, choose_dtype

CAPABILITIES = EngineCapabilities(
    # What is missing, OpenVINO has not or means otherwise: its presence and frequency penalties
    # turn with the logit's sign, and it reports no alternatives and no scores of cached prompts.
    sampling_fields=frozenset(
        {"temperature", "top_p", "top_k", "min_p", "repetition_penalty"}
        | {"min_tokens", "ignore_eos", "logprobs"}
    ),
)
_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is settled before anything is converted."""

    folder: ModelFolder
    text: HFText
    stored: torch.dtype
    """Of weights."""
    dtype: torch.dtype
    """Of activations and attention memory."""
    limits: Limits
    eos: frozenset[int]


class OpenVinoLoader:
    """Makes OpenVINO engines."""

    def __init__(self, settings: OpenVinoSettings) -> None:
        if find_spec("openvino_genai") is None:
            raise FailedPrecondition(
                "The openvino engine is not installed: install the extra `openvino`, or take the "
                "torch engine."
            )
        if settings.device not in ("auto", "cpu"):
            raise FailedPrecondition(
                f"The openvino engine runs on processors, not on “{settings.device}”: use cpu or "
                f"auto, or the torch engine."
            )
        self._settings = settings
        self._models = ConvertedModels(settings.cache, settings.cached_models)

    async def load(self, spec: ModelSpec, progress: Progress) -> LoadedModel:
        """Converts the model if that wasn't done before, and starts its engine."""
        plan = await asyncio.to_thread(self._plan, spec)
        progress(0.1)
        weights = "f32" if plan.stored is torch.float32 else "f16"
        converted = await self._models.get(plan.folder, weights)
        progress(0.7)
        try:
            link = await self._open(plan, converted)
        except FailedPrecondition:  # the cache may be broken in a way that sizes don't show
            await self._models.discard(converted)
            converted = await self._models.get(plan.folder, weights)
            link = await self._open(plan, converted)
        progress(1.0)
        limits = plan.limits
        info = EngineInfo(
            name="openvino",
            device="cpu",
            dtype=str(plan.dtype).removeprefix("torch."),
            context_length=limits.context_length,
            slots=limits.slots,
            vocabulary_size=limits.vocabulary_size,
            parameter_count=converted.parameter_count,
            capabilities=CAPABILITIES,
            build=f"openvino-genai-{version('openvino-genai')}_{converted.folder.name}",
        )
        engine = OpenVinoEngine(
            info,
            AdmissionQueue(limits, eos=plan.eos, now=time.monotonic()),
            link,
            eos=plan.eos,
            prefix_caching=self._settings.prefix_caching,
        )
        return LoadedModel(engine, plan.text)

    def _plan(self, spec: ModelSpec) -> _Plan:
        settings = self._settings
        folder = ModelFolder(spec.source, takes_adapters=True)
        device = choose_device("cpu")
        stored = choose_dtype(
            spec.dtype if spec.dtype not in ("", "auto") else settings.dtype, device
        )
        dtype = computed_in(stored)
        config = load_config(folder)
        check_architecture(config)
        context = context_length(config, wanted=spec.context_length, most=settings.max_context)
        _check_window(config, context)
        tokenizer = load_tokenizer(folder)
        vocabulary_size = int(cast("Any", config).vocab_size)
        slots = spec.max_batch_size or settings.max_batch_size
        needs = memory_needs(
            config,
            folder.weights,
            dtype,
            context=context,
            slots=slots,
            step_tokens=settings.step_tokens,
        )
        kv_bytes = plan_kv(
            needs, free=free_bytes(device), share=CPU_SHARE, asked=settings.kv_cache_bytes
        )
        return _Plan(
            folder,
            HFText(tokenizer, vocabulary_size=vocabulary_size),
            stored,
            dtype,
            Limits(
                slots=slots,
                queue_limit=settings.queue_limit,
                context_length=context,
                vocabulary_size=vocabulary_size,
                kv_tokens=-(-kv_bytes // needs.kv_token // BLOCK) * BLOCK,
                reuse=settings.prefix_caching,
            ),
            end_tokens(config, _generation(folder), cast("int | None", tokenizer.eos_token_id)),
        )

    async def _open(self, plan: _Plan, converted: Converted) -> WorkerLink[FromWorker]:
        settings = self._settings
        start = Start(
            folder=str(converted.folder),
            precision=_PRECISIONS[plan.dtype],
            slots=plan.limits.slots,
            step_tokens=max(settings.step_tokens, plan.limits.slots),
            blocks=plan.limits.kv_tokens // BLOCK,
            prefix_caching=settings.prefix_caching,
            threads=settings.threads,
        )
        decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        link, _ = await WorkerLink[FromWorker].open("worker", start, decoder)
        return link


def computed_in(stored: torch.dtype) -> torch.dtype:
    """The number type that a processor computes in for a type of weights.

    Without AVX-512, OpenVINO computes in float32, and its attention takes no other memory.
    """
    features = torch.cpu.get_capabilities()
    if features.get("architecture") != "x86_64" or features.get("avx512_f"):
        return stored
    return torch.float32


def _check_window(config: PretrainedConfig, context: int) -> None:
    window = int(getattr(config, "sliding_window", None) or 0)
    if SLIDING in layer_kinds(config) and window < context:
        raise FailedPrecondition(
            f"{config.model_type} has sliding attention over {window} tokens, which the openvino "
            f"engine does not compute: give the model a context length of at most {window}, or "
            f"serve it with the torch engine."
        )


def _generation(folder: ModelFolder) -> GenerationConfig | None:
    if not (folder.path / "generation_config.json").is_file():
        return None
    return cast("Any", GenerationConfig).from_pretrained(folder.path, local_files_only=True)

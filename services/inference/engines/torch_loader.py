"""Loads Hugging Face causal language models: safetensors only, no remote code, no network."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
import transformers
from transformers import PreTrainedModel

from services.inference.engine import (
    EngineCapabilities,
    EngineInfo,
    LoadedModel,
    ModelSpec,
)
from services.inference.engines.adapters import AdapterLimits
from services.inference.engines.admission import Limits
from services.inference.engines.architecture import (
    check_architecture,
    context_length,
    end_tokens,
)
from services.inference.engines.cuda_graphs import choose_recorder
from services.inference.engines.grammar_compiler import GrammarCompiler, read_vocabulary
from services.inference.engines.hf_text import HFText
from services.inference.engines.memory_plan import (
    CPU_SHARE,
    GPU_SHARE,
    check_kv,
    memory_needs,
    plan_kv,
)
from services.inference.engines.number_types import choose_number_type
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.self_check import check_runner
from services.inference.engines.torch_engine import TorchEngine
from services.inference.engines.torch_model import check_eight_bits, load_model
from services.inference.engines.torch_runner import TorchRunner
from services.inference.engines.torch_settings import TorchSettings
from services.weights.configuration import fast_tokenizer, load_config, load_tokenizer
from services.weights.folder import ModelFolder
from services.weights.memory import free_bytes
from services.weights.processor import choose_device

transformers.utils.logging.disable_progress_bar()

CAPABILITIES = EngineCapabilities(
    sampling_fields=frozenset(
        {"temperature", "top_p", "top_k", "min_p", "typical_p", "logit_bias", "logprobs"}
        | {"repetition_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty"}
        | {"min_tokens", "ignore_eos"}
    ),
    max_top_logprobs=20,
    prompt_logprobs=True,
)
GUIDED_CAPABILITIES = replace(
    CAPABILITIES, json_object=True, json_schema=True, regex=True, gbnf=True
)
"""With a tokenizer whose tokens have bytes of their own."""

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What loading makes off the event loop."""

    runner: TorchRunner
    text: HFText
    info: EngineInfo
    eos: frozenset[int]
    grammars: GrammarCompiler | None
    kv_tokens: int


class TorchLoader:
    """Makes torch engines."""

    def __init__(self, settings: TorchSettings | None = None) -> None:
        self._settings = settings or TorchSettings()

    async def load(self, spec: ModelSpec, progress: Progress) -> LoadedModel:
        """Loads and checks a model on another thread, then starts its engine."""
        loop = asyncio.get_running_loop()

        def report(share: float) -> None:
            loop.call_soon_threadsafe(progress, share)

        parts = await asyncio.to_thread(self._load, spec, report)
        limits = Limits(
            slots=parts.info.slots,
            queue_limit=self._settings.queue_limit,
            context_length=parts.info.context_length,
            vocabulary_size=parts.info.vocabulary_size,
            kv_tokens=parts.kv_tokens,
        )
        scheduler = Scheduler(
            limits,
            eos=parts.eos,
            step_tokens=self._settings.step_tokens,
            speculative_tokens=self._settings.speculative_tokens,
            now=time.monotonic(),
        )
        progress(1.0)
        adapters = AdapterLimits(self._settings.max_adapters, self._settings.max_adapter_rank)
        engine = TorchEngine(parts.info, parts.runner, scheduler, parts.grammars, adapters)
        return LoadedModel(engine, parts.text)

    def _load(self, spec: ModelSpec, report: Progress) -> _Parts:
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        folder = ModelFolder(spec.source, takes_adapters=True)
        device = choose_device(settings.device)
        number_type = choose_number_type(
            spec.dtype if spec.dtype not in ("", "auto") else settings.dtype, device
        )
        dtype, eight = number_type.dtype, number_type.eight
        config = load_config(folder)
        check_architecture(config)
        narrow = frozenset[str]()
        if eight:
            narrow = check_eight_bits(config, settings.decoder, eight, dtype).layout.matrices
        context = context_length(config, wanted=spec.context_length, most=settings.max_context)
        slots = spec.max_batch_size or settings.max_batch_size
        recorder = choose_recorder(device, cuda_graphs=settings.cuda_graphs)
        kv_bytes = plan_kv(
            memory_needs(
                config,
                folder.weights,
                dtype,
                context=context,
                slots=slots,
                step_tokens=settings.step_tokens,
                recorded=recorder is not None,
                eight=narrow,
                loads_on_device=device.type == "cpu",
            ),
            free=free_bytes(device),
            share=GPU_SHARE if device.type == "cuda" else CPU_SHARE,
            asked=settings.kv_cache_bytes,
        )
        report(0.05)
        tokenizer = load_tokenizer(folder)
        report(0.1)
        loaded = load_model(folder, config, device, dtype, decoder=settings.decoder, eight=eight)
        model = cast("PreTrainedModel", loaded.model)  # the compact decoder is called like one
        report(0.8)
        vocabulary_size = int(config.vocab_size)
        text = HFText(tokenizer, vocabulary_size=vocabulary_size)
        eos = end_tokens(config, loaded.generation, cast("int | None", tokenizer.eos_token_id))
        runner = TorchRunner(
            model,
            loaded.masks,
            layers=int(config.num_hidden_layers),
            vocabulary_size=vocabulary_size,
            eos=eos,
            recorder=recorder,
            slots=slots,
        )
        check_runner(
            model,
            runner,
            vocabulary_size=vocabulary_size,
            context_length=context,
            rounds_in=torch.bfloat16 if eight else dtype,
        )
        kv_tokens = check_kv(kv_bytes, runner.bytes_per_token, context)
        report(0.95)
        vocabulary = read_vocabulary(fast_tokenizer(tokenizer), vocabulary_size, frozenset(eos))
        grammars = None if vocabulary is None else GrammarCompiler(vocabulary)
        info = EngineInfo(
            name="torch",
            device=str(model.device),
            dtype=number_type.name,
            context_length=context,
            slots=slots,
            vocabulary_size=vocabulary_size,
            parameter_count=loaded.parameter_count,
            capabilities=replace(
                CAPABILITIES if grammars is None else GUIDED_CAPABILITIES,
                lora=loaded.compact and settings.max_adapters > 0,
            ),
            build=(
                f"torch-{torch.__version__}_transformers-{transformers.__version__}_"
                f"{'compact_' if loaded.compact else ''}{folder.digest()}"
            ),
        )
        return _Parts(runner, text, info, eos, grammars, kv_tokens)

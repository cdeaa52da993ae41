"""Loads Hugging Face causal language models: safetensors only, no remote code, no network."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from services.errors import FailedPrecondition
from services.inference.engine import (
    EngineCapabilities,
    EngineInfo,
    LoadedModel,
    ModelSpec,
)
from services.inference.engines.admission import Limits
from services.inference.engines.architecture import (
    attention_implementation,
    attention_masks,
    check_architecture,
    context_length,
    end_tokens,
)
from services.inference.engines.hf_text import HFText
from services.inference.engines.model_folder import ModelFolder
from services.inference.engines.processor import choose_device, choose_dtype
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.self_check import check_runner
from services.inference.engines.torch_engine import TorchEngine
from services.inference.engines.torch_runner import TorchRunner
from services.inference.engines.torch_settings import TorchSettings

_log = logging.getLogger(__name__)

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

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What loading makes off the event loop."""

    runner: TorchRunner
    text: HFText
    info: EngineInfo
    eos: frozenset[int]


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
        )
        scheduler = Scheduler(
            limits,
            eos=parts.eos,
            prefill_tokens=self._settings.prefill_tokens,
            now=time.monotonic(),
        )
        progress(1.0)
        return LoadedModel(TorchEngine(parts.info, parts.runner, scheduler), parts.text)

    def _load(self, spec: ModelSpec, report: Progress) -> _Parts:
        settings = self._settings
        if settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        folder = ModelFolder(spec.source)
        device = choose_device(settings.device)
        dtype = choose_dtype(
            spec.dtype if spec.dtype not in ("", "auto") else settings.dtype, device
        )
        config = _load_config(folder)
        check_architecture(config)
        context = context_length(config, wanted=spec.context_length, most=settings.max_context)
        report(0.05)
        tokenizer = _load_tokenizer(folder)
        report(0.1)
        model = _load_model(folder, config, device, dtype)
        report(0.8)
        vocabulary_size = int(config.vocab_size)
        text = HFText(tokenizer, vocabulary_size=vocabulary_size)
        generation = cast("GenerationConfig | None", model.generation_config)
        eos = end_tokens(config, generation, cast("int | None", tokenizer.eos_token_id))
        slots = spec.max_batch_size or settings.max_batch_size
        boolean = model.config._attn_implementation != "eager"  # pyright: ignore[reportPrivateUsage]
        runner = TorchRunner(
            model,
            attention_masks(config, dtype=dtype, boolean=boolean),
            layers=int(config.num_hidden_layers),
            rows=slots,
            context_length=context,
            vocabulary_size=vocabulary_size,
            eos=eos,
        )
        check_runner(model, runner, vocabulary_size=vocabulary_size, context_length=context)
        report(0.95)
        info = EngineInfo(
            name="torch",
            device=str(model.device),
            dtype=str(dtype).removeprefix("torch."),
            context_length=context,
            slots=slots,
            vocabulary_size=vocabulary_size,
            parameter_count=sum(parameter.numel() for parameter in model.parameters()),
            capabilities=CAPABILITIES,
            build=(
                f"torch-{torch.__version__}_transformers-{transformers.__version__}_{folder.digest()}"
            ),
        )
        return _Parts(runner, text, info, eos)


def _load_config(folder: ModelFolder) -> PretrainedConfig:
    try:
        config: Any = cast("Any", AutoConfig).from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        _log.exception("a configuration can't be loaded")
        kind = folder.config.get("model_type") or "none"
        raise FailedPrecondition(
            f"config.json can't be used: its model_type is “{kind}”, and transformers "
            f"{transformers.__version__} must know it and all its settings; the server's log has "
            f"the details."
        ) from error
    return cast("PretrainedConfig", config)


def _load_tokenizer(folder: ModelFolder) -> PreTrainedTokenizerBase:
    try:
        tokenizer: Any = cast("Any", AutoTokenizer).from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        _log.exception("a tokenizer can't be loaded")
        raise FailedPrecondition(
            "The tokenizer can't be loaded: save it into the folder again with "
            "`tokenizer.save_pretrained(folder)`; the server's log has the details."
        ) from error
    return cast("PreTrainedTokenizerBase", tokenizer)


def _load_model(
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

"""Exports text models for Triton: `python -m services.inference.engines.triton_export`.

Layouts: `python` runs this software's torch engine in the python backend, by the contract of the
vLLM backend; `vllm` is a model of that backend; `tensorrt_llm` is one of TensorRT-LLM's, and how to
build its engine on a GPU.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from services.errors import InvalidArgument
from services.inference.engines.architecture import context_length
from services.inference.engines.triton_export_pages import page
from services.inference.engines.triton_ports import TENSORRT_LLM, VLLM
from services.tritonserver.export.child import run
from services.tritonserver.export.options import ExportOptions, refuse, with_layout
from services.tritonserver.export.sections import Layout, config_text
from services.tritonserver.export.vendored import requirements, vendored
from services.tritonserver.export.writing import Exported, weights_parameter, write
from services.weights.configuration import load_config
from services.weights.folder import ModelFolder

LAYOUTS = ("python", "vllm", "tensorrt_llm")
MODEL = "services.inference.engines.triton_vllm_model"
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "jinja2", "llguidance")
_SLOTS = 16
_MOST_CONTEXT = 4096
_ONE_QUEUE = "The model batches and queues by itself"
_TYPES = {"auto": "auto", "float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the folder says of the model."""

    source: Path
    model_type: str
    context_length: int
    parameter_count: int
    digest: str


def export(source: Path, repository: Path, kind: str, options: ExportOptions) -> list[Path]:
    """Exports a folder as a model of the kind `chat` or `completion`.

    Raises:
        DomainError: the folder or an option won't do; the message says why.
    """
    options = with_layout(options, LAYOUTS, "A text model")
    own = (
        "preferred_batch_sizes",
        "priority_levels",
        "response_cache",
        "profile",
        "timeout_action",
    )
    refuse(options, dict.fromkeys(own, _ONE_QUEUE))
    if options.layout != "tensorrt_llm":
        refuse(options, {"precision": "This is for engines that TensorRT-LLM builds"})
    facts = read_facts(source, options.context_length)
    made = {"python": _python, "vllm": _vllm, "tensorrt_llm": _tensorrt_llm}[options.layout]
    layout, files = made(facts, options)
    written = {
        "config.pbtxt": config_text(layout, options),
        "README.md": page(facts.model_type, facts.context_length, options, layout),
        **files,
    }
    return write(repository, [Exported(options.name, written, source)], options)


def read_facts(source: Path, wanted: int = 0) -> Facts:
    """Reads a model's folder. Raises `FailedPrecondition`."""
    folder = ModelFolder(source)
    config = load_config(folder)
    return Facts(
        source,
        str(config.model_type),
        context_length(config, wanted=wanted, most=_MOST_CONTEXT),
        sum(map(_numbers, folder.weights)),
        folder.digest(),
    )


def _python(facts: Facts, options: ExportOptions) -> tuple[Layout, Mapping[str, str | bytes]]:
    layout = Layout(
        backend="python",
        inputs=VLLM.inputs,
        outputs=VLLM.outputs,
        decoupled=True,
        parameters={
            **_said(facts),
            "weights": weights_parameter(options),
            "dtype": options.dtype,
            "threads": str(options.threads),
            "slots": str(options.max_batch_size or _SLOTS),
            "queue_limit": str(options.queue_size),
        },
    )
    files = {f"1/{path}": text for path, text in vendored(MODEL).items()}
    return layout, {**files, "requirements.txt": requirements(PACKAGES) + "\n"}


def _vllm(facts: Facts, options: ExportOptions) -> tuple[Layout, Mapping[str, str | bytes]]:
    if not options.gpus:
        raise InvalidArgument("vLLM runs on a GPU: name one.", field="gpus")
    layout = Layout(
        backend="vllm",
        inputs=VLLM.inputs,
        outputs=VLLM.outputs,
        decoupled=True,
        parameters=_said(facts),
    )
    weights = weights_parameter(options)
    engine = {
        "model": weights if Path(weights).is_absolute() else f"/models/{options.name}/1/{weights}",
        "dtype": _TYPES[options.dtype],
        "max_model_len": facts.context_length,
        "max_num_seqs": options.max_batch_size or 256,
        "tensor_parallel_size": len(options.gpus),
        "gpu_memory_utilization": 0.9,
        "enable_prefix_caching": True,
        "disable_log_stats": False,
    }
    return layout, {"1/model.json": json.dumps(engine, indent=2) + "\n"}


def _tensorrt_llm(facts: Facts, options: ExportOptions) -> tuple[Layout, Mapping[str, str | bytes]]:
    if not options.gpus:
        raise InvalidArgument("TensorRT-LLM runs on a GPU: name one.", field="gpus")
    layout = Layout(
        backend="tensorrtllm",
        max_batch_size=options.max_batch_size or 64,
        inputs=TENSORRT_LLM.inputs,
        outputs=TENSORRT_LLM.outputs,
        decoupled=True,
        parameters={
            **_said(facts),
            "gpt_model_type": "inflight_fused_batching",
            "gpt_model_path": f"/models/{options.name}/1",
            "max_beam_width": "1",
            "batch_scheduler_policy": "guaranteed_no_evict",
            "kv_cache_free_gpu_mem_fraction": "0.9",
            "enable_kv_cache_reuse": "true",
            "exclude_input_in_output": "true",
            "enable_chunked_context": "true",
            "cancellation_check_period_ms": "100",
            "gpu_device_ids": ",".join(map(str, options.gpus)),
        },
    )
    return layout, {"1/PUT_THE_ENGINE_HERE": "trtllm-build makes it: see README.md.\n"}


def _said(facts: Facts) -> dict[str, str]:
    return {
        "digest": facts.digest,
        "context_length": str(facts.context_length),
        "parameter_count": str(facts.parameter_count),
    }


def _numbers(file: Path) -> int:
    """Numbers in a file of weights, from its head."""
    with file.open("rb") as stream:
        head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    total = 0
    for name, told in cast("dict[str, Any]", head).items():
        if name != "__metadata__":
            count = 1
            for size in cast("list[int]", told["shape"]):
                count *= size
            total += count
    return total


if __name__ == "__main__":
    raise SystemExit(run(export))

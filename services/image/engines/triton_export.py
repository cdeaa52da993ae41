"""Exports image models for Triton: `python -m services.image.engines.triton_export`.

One layout, `python`: this software's diffusers engine in the python backend, decoupled.
"""

from pathlib import Path

from services.image.engines.diffusers_families import find_family
from services.image.engines.triton_export_pages import page
from services.image.engines.triton_wire import EVENT, LATENTS, ORDER, PICTURES
from services.tritonserver.export.child import run
from services.tritonserver.export.options import ExportOptions, refuse, with_layout
from services.tritonserver.export.sections import Layout, Port, Sample, config_text
from services.tritonserver.export.vendored import requirements, vendored
from services.tritonserver.export.writing import Exported, weights_parameter, write
from services.tritonserver.tensors import join_bytes
from services.weights.pipeline import PipelineFolder

LAYOUTS = ("python",)
MODEL = "services.image.engines.triton_model"
PACKAGES = (
    *("torch", "diffusers", "transformers", "tokenizers"),
    *("accelerate", "safetensors", "pillow", "scipy"),
)
_MAX_BATCH = 8
_MAX_WAITING = 16
_PROBE = '{"op": "probe"}'
_NO_QUEUE = "A decoupled model takes requests as they come and queues them itself"
_REASONS = {
    "queue_delay_us": _NO_QUEUE,
    "preferred_batch_sizes": _NO_QUEUE,
    "queue_timeout_s": _NO_QUEUE,
    "timeout_action": _NO_QUEUE,
    "priority_levels": _NO_QUEUE,
    "response_cache": "Triton caches no answers of decoupled models",
    "precision": "No TensorRT engine is made of an image model",
    "profile": "No TensorRT engine is made of an image model",
    "context_length": "An image model has none",
}


def export(source: Path, repository: Path, kind: str, options: ExportOptions) -> list[Path]:
    """Exports a folder as a model of the kind `image`.

    Raises:
        DomainError: the folder or an option won't do; the message says why.
    """
    options = with_layout(options, LAYOUTS, "An image model")
    refuse(options, _REASONS)
    folder = PipelineFolder(source)
    family = find_family(folder.kind)
    waiting = options.queue_size if options.queue_size != _usual_queue() else _MAX_WAITING
    layout = Layout(
        backend="python",
        decoupled=True,
        inputs=[
            Port(ORDER, "STRING", [1]),
            Port(PICTURES, "STRING", [-1], optional=True),
            Port(LATENTS, "FP32", [-1, -1, -1, -1], optional=True),
        ],
        outputs=[
            Port(EVENT, "STRING", [1]),
            Port(LATENTS, "FP32", [-1, -1, -1, -1]),
            Port(PICTURES, "UINT8", [-1, -1, -1, -1]),
        ],
        parameters={
            "weights": weights_parameter(options),
            "dtype": options.dtype,
            "batching": "exact",
            "max_batch": str(options.max_batch_size or _MAX_BATCH),
            "max_waiting": str(waiting),
            "compile": "false",
            "threads": str(options.threads),
        },
        samples={"one step": [Sample(ORDER, "STRING", [1], "probe")]},
    )
    files: dict[str, str | bytes] = {f"1/{path}": text for path, text in vendored(MODEL).items()}
    files |= {
        "config.pbtxt": config_text(layout, options),
        "README.md": page(family, options, layout),
        "requirements.txt": requirements(PACKAGES) + "\n",
    }
    if options.warmup:
        files["warmup/probe"] = join_bytes([_PROBE])
    return write(repository, [Exported(options.name, files, source)], options)


def _usual_queue() -> int:
    return ExportOptions(name="any").queue_size


if __name__ == "__main__":
    raise SystemExit(run(export))

"""The README of an exported encoder."""

from services.embedding.engines.encoder_facts import EncoderFacts
from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.readme import readme, table, tensors
from services.tritonserver.export.sections import Layout

_PRECISIONS = {
    "fp32": ("", "FP32 (TensorRT may still use TF32: add `--noTF32` to keep it from that)."),
    "fp16": ("--fp16", "FP16 where it is faster, FP32 elsewhere. The usual choice."),
    "bf16": ("--bf16", "BF16, on GPUs from Ampere on."),
    "int8": (
        "--int8 --fp16",
        "INT8 where a scale is known. `trtexec` has none for a plain ONNX file and then takes "
        "random ones, good for timing only: quantise the graph first (NVIDIA ModelOpt: `python -m "
        "modelopt.onnx.quantization --onnx_path onnx/model.onnx --quantize_mode int8 "
        "--calibration_data …`) and build from its output with `--stronglyTyped` in place of these "
        "flags where your TensorRT asks for that.",
    ),
    "fp8": (
        "--fp8 --fp16",
        "FP8, on GPUs from Ada and Hopper on. As with INT8 the graph has to hold its scales: "
        "quantise it first (`--quantize_mode fp8`).",
    ),
}


def page(facts: EncoderFacts, options: ExportOptions, layout: Layout, *, pairs: bool) -> str:
    """The README."""
    parts = [("What it is", _about(facts, options, pairs=pairs)), ("Tensors", _tensors(layout))]
    if options.layout == "tensorrt":
        parts.insert(1, ("Building the engine", _tensorrt(options, layout)))
    elif options.layout == "onnx":
        parts.append(("Backend", _onnx()))
    else:
        parts.append(("Environment", _python(options)))
    title = "a cross-encoder on Triton" if pairs else "an embedding model on Triton"
    return readme(title, options, layout, parts)


def _about(facts: EncoderFacts, options: ExportOptions, *, pairs: bool) -> str:
    gives = "one score in [0, 1] for each pair of texts"
    if not pairs:
        gives = (
            f"one vector of {facts.dimensions} numbers for each input, **not scaled to length 1**"
        )
    layouts = {
        "python": "this software's own torch engine in Triton's python backend",
        "onnx": "one ONNX file on ONNX Runtime",
        "tensorrt": "a TensorRT engine",
    }
    return f"""
A {facts.config.model_type} model, as {layouts[options.layout]}.
It takes token IDs and gives {gives}.

Texts are turned into token IDs, prompts put in front, vectors scaled and shortened by whoever
calls: EmbeddingService does all of that with the engine `triton`, and its vectors are those of its
own torch engine but for rounding. It needs the model's folder for the tokenizer. Other clients use
the tokenizer of the model's folder themselves.
"""


def _tensors(layout: Layout) -> str:
    return f"""
{tensors(layout)}

Every shape has the batch in front. A row of `attention_mask` is 1 where a token is and 0 where the
row is padded; `pooling_mask` is 0 where a token is read but not pooled (a prompt, in models that
say so); `token_type_ids` is 1 in the second text of a pair.
"""


def _python(options: ExportOptions) -> str:
    where = "a GPU" if options.gpus else "the processor"
    return f"""
`1/model.py` and `1/lib` hold the code (a copy of this software's encoder, readable, no build step);
`1/weights` the model. Triton's environment has to have Python 3.11 or later with what
`requirements.txt` names:

```sh
pip install -r requirements.txt
```

or, for one model only, a packed environment (`conda-pack`) named by the parameter
`EXECUTION_ENV_PATH` in config.pbtxt. Triton 2.51 loses the outputs of python models under NumPy 2:
give it NumPy 1.26 there.

It runs on {where}; rows of all requests of a batch are computed together and, for the
architectures that the encoder knows, without padding, so `allow_ragged_batch` lets Triton put
requests of any lengths together.
"""


def _onnx() -> str:
    return """
The server has to have the backend `onnxruntime`, as NVIDIA's full images do. Requests are only put
together where they are padded to the same length: EmbeddingService pads to multiples of
`pad_multiple` for that.

On a GPU, ONNX Runtime can hand the graph on to TensorRT. Add to config.pbtxt:

```
optimization { execution_accelerators { gpu_execution_accelerator: [ {
  name: "tensorrt"
  parameters { key: "precision_mode" value: "FP16" }
  parameters { key: "max_workspace_size_bytes" value: "1073741824" }
  parameters { key: "trt_engine_cache_enable" value: "1" }
  parameters { key: "trt_engine_cache_path" value: "/models/.trt_cache" }
} ] } }
```

This acceleration has never been run by those who wrote this page: it needs a GPU.
"""


def _tensorrt(options: ExportOptions, layout: Layout) -> str:
    flags, words = _PRECISIONS[options.precision]
    least, best, most = options.profile.split(",")
    names = [one.name for one in layout.inputs]

    def shapes(shape: str) -> str:
        return ",".join(f"{name}:{shape}" for name in names)

    command = [
        "trtexec --onnx=onnx/model.onnx --saveEngine=1/model.plan",
        f"--minShapes={shapes(least)}",
        f"--optShapes={shapes(best)}",
        f"--maxShapes={shapes(most)}",
        "--builderOptimizationLevel=4 --memPoolSize=workspace:4096M",
        *([flags] if flags else []),
    ]
    joined = " \\\n  ".join(command)
    rows = [
        (f"`{name}`", f"`{given or '(none)'}`", what) for name, (given, what) in _PRECISIONS.items()
    ]
    return f"""
An engine is built for one GPU model and one TensorRT version, so it is not part of the export. In
the container that will serve it (NVIDIA's Triton images have `trtexec` beside the TensorRT
backend), in this folder:

```sh
{joined}
rm 1/PUT_model.plan_HERE
```

The optimisation profile is {least} (least), {best} (best), {most} (most), as inputs x tokens.
`max_batch_size` and `context_length` in config.pbtxt are those of the most.

{words}

{table(rows, ("precision", "flags", ""))}

The graph's inputs are INT64, which TensorRT takes from version 10 on. **Building and serving the
engine need a GPU and have never been run by those who wrote this page**; the graph itself was
computed on a processor and gives the vectors of the torch engine.
"""

"""The README of an exported text model."""

from services.tritonserver.export.options import ExportOptions
from services.tritonserver.export.readme import readme, tensors
from services.tritonserver.export.sections import Layout

_WORDS = {
    "python": (
        "this software's own torch engine in Triton's python backend; requests and answers are "
        "those of Triton's vLLM backend, so its clients work with it"
    ),
    "vllm": "a model of Triton's vLLM backend",
    "tensorrt_llm": "an engine of TensorRT-LLM, taking and giving token IDs",
}
_QUANTISING = {
    "fp32": ("--dtype float32", ""),
    "fp16": ("--dtype float16", ""),
    "bf16": ("--dtype bfloat16", ""),
    "int8": ("--dtype float16 --use_weight_only --weight_only_precision int8", ""),
    "fp8": (
        "",
        "python /app/examples/quantization/quantize.py --model_dir /weights --dtype float16 \\\n"
        "    --qformat fp8 --kv_cache_dtype fp8 --output_dir /checkpoint",
    ),
}


def page(model_type: str, context: int, options: ExportOptions, layout: Layout) -> str:
    """The README."""
    about = (
        f"A {model_type} model for {context} tokens of prompt and output, as "
        f"{_WORDS[options.layout]}.\n\nChat templates, tool calls, stop strings and the count of "
        f"tokens are the work of InferenceService, with the engine `triton`: they are the same as "
        f"on its other engines. It needs the model's folder for the tokenizer, not its weights."
    )
    parts = [("What it is", about), ("Tensors", tensors(layout))]
    if options.layout == "tensorrt_llm":
        parts.insert(1, ("Building the engine", _building(context, options, layout)))
    elif options.layout == "vllm":
        parts.append(("Backend", _vllm(options)))
    else:
        parts.append(("Environment", _python()))
    return readme("a text model on Triton", options, layout, parts)


def _python() -> str:
    return (
        "Triton's Python needs what requirements.txt names. LoRA adapters: `1/multi_lora.json` "
        'holds `{"<name>": "<folder, relative to 1/>"}`, and requests name one by `lora_name` in '
        "`sampling_parameters`."
    )


def _vllm(options: ExportOptions) -> str:
    return (
        "**Needs a GPU; written here, never run here.** Use an image of Triton with vLLM "
        "(`nvcr.io/nvidia/tritonserver:<release>-vllm-python-py3`). `1/model.json` holds vLLM's "
        f"engine arguments: `model` is the path of the weights as Triton sees it (the repository "
        f"mounted at `/models`, this model at `/models/{options.name}`). LoRA adapters: set "
        '`"enable_lora": true` there, and list them in `1/multi_lora.json` as '
        '`{"<ID of the adapter>": "<its folder>"}`; the adapter is deployed under that ID.'
    )


def _building(context: int, options: ExportOptions, layout: Layout) -> str:
    flags, quantise = _QUANTISING[options.precision]
    ranks = len(options.gpus)
    convert = quantise or (
        "python /app/examples/models/core/llama/convert_checkpoint.py --model_dir /weights "
        f"{flags} \\\n    --tp_size {ranks} --output_dir /checkpoint"
    )
    return f"""
**Needs a GPU; written here, never run here.** In an image of Triton with TensorRT-LLM
(`nvcr.io/nvidia/tritonserver:<release>-trtllm-python-py3`), with the model's folder at `/weights`
and this repository at `/models`; the script that converts is that of the model's architecture:

```sh
{convert}
trtllm-build --checkpoint_dir /checkpoint --output_dir /models/{options.name}/1 \\
    --max_batch_size {layout.max_batch_size} --max_input_len {context} --max_seq_len {context} \\
    --gemm_plugin auto --use_paged_context_fmha enable --kv_cache_type paged
```

Log-probabilities and `logit_bias` need nothing more. Where a repository has NVIDIA's own
`ensemble` or `tensorrt_llm_bls` in front of such a model, deploy by one of those names: the
platform finds the model behind it and speaks token IDs with that.
"""

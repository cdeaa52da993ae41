"""Exports encoders for Triton: `python -m services.embedding.engines.triton_export`.

Layouts: `python` runs this software's torch engine in the python backend; `onnx` is one ONNX file;
`tensorrt` is that, and how to make an engine of it on a GPU.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from services.embedding.engine import Tokens
from services.embedding.engines.encoder_check import samples
from services.embedding.engines.encoder_facts import EncoderFacts, read_facts
from services.embedding.engines.hf_text import load_tokenizer
from services.embedding.engines.onnx_export import export_onnx, takes_types
from services.embedding.engines.triton_encoder import Contract, to_tensors
from services.embedding.engines.triton_export_pages import page
from services.errors import InvalidArgument
from services.tritonserver.export.child import run
from services.tritonserver.export.options import ExportOptions, Profile, refuse, with_layout
from services.tritonserver.export.sections import Layout, Port, Sample, config_text
from services.tritonserver.export.vendored import requirements, vendored
from services.tritonserver.export.writing import Exported, weights_parameter, write

LAYOUTS = ("python", "onnx", "tensorrt")
MODEL = "services.embedding.engines.triton_model"
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")
_BATCH = 64
_PAD_MULTIPLE = 16
_BATCH_TOKENS = 4096
_ONNX_DTYPE = "float32"
_GRAPH_ONLY = "This is for graphs that TensorRT builds"
_PYTHON_ONLY = "An ONNX file holds its weights"


def export(source: Path, repository: Path, kind: str, options: ExportOptions) -> list[Path]:
    """Exports a folder as a model of the kind `embedding` or `rerank`.

    Raises:
        DomainError: the folder or an option won't do; the message says why.
    """
    options = with_layout(options, LAYOUTS, "An encoder")
    pairs = kind == "rerank"
    facts = read_facts(source, context_length=options.context_length, scores_pairs=pairs)
    if options.layout == "python":
        refuse(options, dict.fromkeys(("precision", "profile"), _GRAPH_ONLY))
        return _export_python(facts, repository, options, pairs=pairs)
    refuse(options, dict.fromkeys(("weights", "dtype"), _PYTHON_ONLY))
    refuse(options, {"threads": "ONNX Runtime and TensorRT choose their threads"})
    if options.layout == "onnx":
        refuse(options, dict.fromkeys(("precision", "profile"), _GRAPH_ONLY))
    return _export_graph(facts, repository, options, pairs=pairs)


def _export_python(
    facts: EncoderFacts, repository: Path, options: ExportOptions, *, pairs: bool
) -> list[Path]:
    layout = Layout(
        backend="python",
        max_batch_size=options.max_batch_size or _BATCH,
        inputs=_inputs(facts, pairs=pairs, ragged=True, optional=True),
        outputs=[_output(facts, pairs=pairs)],
        parameters={
            **_said(facts, pairs=pairs),
            "weights": weights_parameter(options),
            "dtype": options.dtype,
            "encoder": "auto",
            "threads": str(options.threads),
            "batch_tokens": str(_BATCH_TOKENS),
        },
        samples=_warmups(facts, pairs=pairs, ragged=True),
    )
    files: dict[str, str | bytes] = {f"1/{path}": text for path, text in vendored(MODEL).items()}
    files["requirements.txt"] = requirements(PACKAGES) + "\n"
    return _write(facts, repository, options, layout, files, pairs=pairs)


def _export_graph(
    facts: EncoderFacts, repository: Path, options: ExportOptions, *, pairs: bool
) -> list[Path]:
    profile = options.shapes(_usual_profile(facts, options))
    if profile.most[1] > facts.context_length:
        raise InvalidArgument(
            f"The profile's {profile.most[1]} tokens are more than the model's context of "
            f"{facts.context_length}.",
            field="profile",
        )
    if options.layout == "tensorrt" and not options.gpus:
        raise InvalidArgument("A TensorRT engine runs on a GPU: name one.", field="gpus")
    tensorrt = options.layout == "tensorrt"
    longest = profile.most[1] if tensorrt else facts.context_length
    most = profile.most[0] if tensorrt else options.max_batch_size or _BATCH
    layout = Layout(
        platform="tensorrt_plan" if tensorrt else "onnxruntime_onnx",
        backend="tensorrt" if tensorrt else "onnxruntime",
        max_batch_size=most,
        inputs=_inputs(facts, pairs=pairs, ragged=False, optional=False),
        outputs=[_output(facts, pairs=pairs)],
        parameters={
            **_said(facts, pairs=pairs),
            "context_length": str(longest),
            "dtype": options.precision if tensorrt else _ONNX_DTYPE,
            "pad_multiple": str(_PAD_MULTIPLE),
        },
        samples=_warmups(facts, pairs=pairs, ragged=False),
    )
    config_text(layout, options)  # refuses before the long part
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        export_onnx(facts, made, scores_pairs=pairs, inputs=[one.name for one in layout.inputs])
        place = "onnx/model.onnx" if tensorrt else "1/model.onnx"
        moved = {place: made}
        if tensorrt:
            options = replace(options, profile=_spelled(profile))
        return _write(facts, repository, options, layout, {}, pairs=pairs, moved=moved)


def _write(
    facts: EncoderFacts,
    repository: Path,
    options: ExportOptions,
    layout: Layout,
    files: dict[str, str | bytes],
    *,
    pairs: bool,
    moved: dict[str, Path] | None = None,
) -> list[Path]:
    written: dict[str, str | bytes] = {
        "config.pbtxt": config_text(layout, options),
        "README.md": page(facts, options, layout, pairs=pairs),
        **files,
    }
    if options.layout == "tensorrt":
        written["1/PUT_model.plan_HERE"] = "trtexec makes it: see README.md.\n"
    if options.warmup:
        for name, content in _warmup_files(facts, pairs=pairs).items():
            written[f"warmup/{name}"] = content
    weights = facts.source if options.layout == "python" else None
    exported = Exported(options.name, written, weights, moved or {})
    return write(repository, [exported], options)


def _inputs(facts: EncoderFacts, *, pairs: bool, ragged: bool, optional: bool) -> list[Port]:
    names = ["input_ids", "attention_mask"]
    if pairs and _types(facts):
        names.append("token_type_ids")
    if not pairs and not facts.files.pools_prompt:
        names.append("pooling_mask")
    return [Port(name, "INT64", [-1], optional and name != "input_ids", ragged) for name in names]


def _types(facts: EncoderFacts) -> bool:
    """Whether tokenizer and model tell the texts of a pair apart."""
    return load_tokenizer(facts.folder).pair_types and takes_types(facts)


def _output(facts: EncoderFacts, *, pairs: bool) -> Port:
    return Port("score", "FP32", [1]) if pairs else Port("embedding", "FP32", [facts.dimensions])


def _said(facts: EncoderFacts, *, pairs: bool) -> dict[str, str]:
    return {
        "digest": facts.digest(),
        "context_length": str(facts.context_length),
        "scores_pairs": "true" if pairs else "false",
        "parameter_count": str(_parameters(facts)),
    }


def _parameters(facts: EncoderFacts) -> int:
    """Numbers in the weights, from the heads of their files."""
    total = 0
    for file in facts.folder.weights:
        with file.open("rb") as stream:
            head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, told in head.items():
            if name != "__metadata__":
                total += int(np.prod(told["shape"], dtype=np.int64))
    return total


def _samples(facts: EncoderFacts, *, pairs: bool) -> Sequence[Tokens]:
    """A short and a long input."""
    made = samples(
        vocabulary_size=facts.vocabulary_size,
        context_length=facts.context_length,
        avoid=int(getattr(facts.config, "pad_token_id", None) or 0),
        pairs=pairs,
    )
    return [made[2], made[1]]


def _warmups(facts: EncoderFacts, *, pairs: bool, ragged: bool) -> dict[str, list[Sample]]:
    names = [one.name for one in _inputs(facts, pairs=pairs, ragged=ragged, optional=False)]
    return {
        f"{len(one.ids)} tokens": [
            Sample(name, "INT64", [len(one.ids)], f"{name}_{len(one.ids)}") for name in names
        ]
        for one in _samples(facts, pairs=pairs)
    }


def _warmup_files(facts: EncoderFacts, *, pairs: bool) -> dict[str, bytes]:
    names = frozenset(one.name for one in _inputs(facts, pairs=pairs, ragged=False, optional=False))
    contract = Contract(names, "", 1)
    return {
        f"{tensor.name}_{len(one.ids)}": tensor.raw
        for one in _samples(facts, pairs=pairs)
        for tensor in to_tensors([one], contract)
    }


def _usual_profile(facts: EncoderFacts, options: ExportOptions) -> Profile:
    most = options.max_batch_size or _BATCH
    longest = facts.context_length
    return Profile(
        (1, min(_PAD_MULTIPLE, longest)), (max(1, most // 4), max(1, longest // 4)), (most, longest)
    )


def _spelled(profile: Profile) -> str:
    return ",".join(f"{a}x{b}" for a, b in (profile.least, profile.best, profile.most))


if __name__ == "__main__":
    raise SystemExit(run(export))

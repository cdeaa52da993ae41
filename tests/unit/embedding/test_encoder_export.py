"""Encoders as Triton gets them: the ONNX graph gives the torch engine's vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from google.protobuf import text_format

from services.embedding.engine import EncoderSpec, Tokens
from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from services.embedding.engines.triton_encoder import to_tensors
from services.embedding.engines.triton_export import export
from services.embedding.engines.triton_loader import read_contract
from services.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from services.tritonserver.export.options import read_options
from services.tritonserver.protocol import config_pb
from tests.conformance.embedding.tiny_encoders import (
    TEXTS,
    add_modules,
    save_encoder,
    write_json,
)

FLOAT = {"INFERENCE_PRECISION_HINT": "f32"}


def options_of(**given: Any) -> Any:
    return read_options({"name": "m", **given})


def config_of(folder: Path) -> Any:
    text = (folder / "config.pbtxt").read_text("utf-8")
    return text_format.Parse(text, config_pb.ModelConfig())


def dense(folder: Path, width: int, outputs: int) -> None:
    import torch
    from safetensors.torch import save_file

    shape = {"in_features": width, "out_features": outputs, "bias": True}
    write_json(folder / "config.json", {**shape, "activation_function": "torch.nn.Tanh"})
    torch.manual_seed(3)
    tensors = {"linear.weight": torch.randn(outputs, width), "linear.bias": torch.randn(outputs)}
    save_file(tensors, folder / "model.safetensors")


def plain(folder: Path) -> Path:
    return save_encoder(folder)


def with_parts(folder: Path) -> Path:
    """Pools by two modes, not the prompt; a linear layer follows, and scaling."""
    save_encoder(folder, "roberta")
    modes = {"pooling_mode": ["cls", "mean"], "include_prompt": False}
    parts = [("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3_Normalize")]
    add_modules(folder, *parts, pooling=modes, prompts={"query": "sky and "})
    (folder / "3_Normalize").mkdir()
    (folder / "2_Dense").mkdir()
    dense(folder / "2_Dense", 64, 12)
    return folder


def cross(folder: Path) -> Path:
    return save_encoder(folder, labels=1)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(plain, "embedding"), (with_parts, "embedding"), (cross, "rerank")],
)
async def test_the_graph_computes_what_the_torch_engine_computes(
    make: Any, kind: str, tmp_path: Path
) -> None:
    source = make(tmp_path / "source")
    [folder] = export(source, tmp_path / "models", kind, options_of(layout="onnx"))
    config = config_of(folder)
    pairs = kind == "rerank"
    contract = read_contract(config, scores_pairs=pairs)
    assert contract.pad_multiple > 1
    spec = EncoderSpec("m", "1", source, 0, "float32", pairs)
    own = await TorchLoader(TorchSettings(device="cpu")).load(spec, lambda _share: None)
    text = own.text
    if pairs:
        query, *others = text.encode(TEXTS[:4])
        batch = [text.pair(query, other) for other in others]
        expected = np.array([await own.score(batch)], np.float32).T
    else:
        prefix = "sky and " if own.info.prompts else ""
        found = text.encode(TEXTS, prefix=prefix)
        batch: list[Tokens] = [text.single(ids, prefix=prefix) for ids in found]
        vectors = await own.encode(batch, normalize=False)
        expected = np.stack([np.frombuffer(vector, "<f4") for vector in vectors])
    await own.close()
    model = openvino.Core().compile_model(folder / "1" / "model.onnx", "CPU", FLOAT)
    given = {one.name: one.array() for one in to_tensors(batch, contract)}
    assert set(given) == {one.name for one in config.input}
    assert np.allclose(model(given)[contract.output], expected, atol=1e-5)
    assert [list(one.dims) for one in config.output] == [[expected.shape[1]]]
    for warmup in config.model_warmup:
        for name, one in warmup.inputs.items():
            raw = (folder / "warmup" / one.input_data_file).read_bytes()
            assert len(raw) == 8 * one.dims[0], name


@pytest.mark.parametrize("precision", ["fp32", "fp8"])
def test_a_tensorrt_layout_says_how_its_engine_is_made(precision: str, tmp_path: Path) -> None:
    """Making and running it takes a GPU: here it is only written."""
    source = save_encoder(tmp_path / "source", num_hidden_layers=1)
    asked = {"layout": "tensorrt", "gpus": [0], "precision": precision, "warmup": False}
    options = options_of(**asked, profile="1x8,4x32,16x128")
    [folder] = export(source, tmp_path / "models", "embedding", options)
    config = config_of(folder)
    assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
    assert config.max_batch_size == 16
    assert config.parameters["context_length"].string_value == "128"
    assert (folder / "onnx" / "model.onnx").is_file()
    told = (folder / "README.md").read_text("utf-8")
    command = told.split("```sh")[1].split("```")[0]
    assert "--minShapes=input_ids:1x8,attention_mask:1x8" in command
    assert "--optShapes=input_ids:4x32" in command
    assert "--maxShapes=input_ids:16x128" in command
    assert (f"--{precision}" in command) is (precision != "fp32")
    assert "have never been run" in told


@pytest.mark.parametrize(
    ("kind", "given", "field"),
    [
        ("embedding", {"layout": "gguf"}, "layout"),
        ("embedding", {"precision": "fp8"}, "precision"),
        ("embedding", {"profile": "1x1,2x2,3x3"}, "profile"),
        ("embedding", {"layout": "onnx", "weights": "link"}, "weights"),
        ("embedding", {"layout": "onnx", "threads": 2}, "threads"),
        ("embedding", {"layout": "tensorrt"}, "gpus"),
        ("embedding", {"layout": "tensorrt", "gpus": [0], "profile": "1x1,2x2,3x999"}, "profile"),
        ("embedding", {"max_batch_size": 4, "preferred_batch_sizes": [8]}, "preferred_batch_sizes"),
    ],
)
def test_an_option_of_another_layout_is_refused(
    kind: str, given: dict[str, Any], field: str, tmp_path: Path
) -> None:
    source = save_encoder(tmp_path / "source", num_hidden_layers=1)
    with pytest.raises(InvalidArgument) as caught:
        export(source, tmp_path / "models", kind, options_of(**given))
    assert caught.value.field == field
    assert not (tmp_path / "models").exists()


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    source = save_encoder(tmp_path / "source", num_hidden_layers=1)
    models = tmp_path / "models"
    [folder] = export(source, models, "embedding", options_of(weights="/elsewhere"))
    (folder / "mine").write_text("kept")
    with pytest.raises(AlreadyExists, match="--overwrite"):
        export(source, models, "embedding", options_of())
    assert (folder / "mine").exists()
    assert config_of(folder).parameters["weights"].string_value == "/elsewhere"
    assert not (folder / "1" / "weights").exists()
    export(source, models, "embedding", options_of(overwrite=True))
    assert not (folder / "mine").exists()
    assert (folder / "1" / "weights" / "model.safetensors").is_file()
    assert [one.name for one in models.iterdir()] == ["m"], "nothing is left lying about"


def test_what_can_not_be_served_is_not_exported(tmp_path: Path) -> None:
    source = cross(tmp_path / "source")
    with pytest.raises(FailedPrecondition, match="kind RERANK"):
        export(source, tmp_path / "models", "embedding", options_of())


def test_the_code_beside_the_model_is_whole(tmp_path: Path) -> None:
    """Everything that it imports of this software is there."""
    source = save_encoder(tmp_path / "source", num_hidden_layers=1)
    [folder] = export(source, tmp_path / "models", "embedding", options_of(weights="link"))
    lib = folder / "1" / "lib"
    for file in [folder / "1" / "model.py", *lib.rglob("*.py")]:
        for line in file.read_text("utf-8").splitlines():
            if line.startswith(("from services.", "import services.")):
                path = lib / line.split()[1].replace(".", "/")
                assert path.with_suffix(".py").is_file() or path.is_dir(), line
    assert (folder / "1" / "weights").resolve() == source.resolve()
    told = (folder / "requirements.txt").read_text("utf-8")
    names = {line.partition("==")[0] for line in told.splitlines()}
    assert {"torch", "transformers"} <= names

"""A transformer's folder is taken or refused with a reason, and told from others."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from services.errors import FailedPrecondition
from services.weights import folder as folders
from services.weights.folder import ModelFolder, digest, find_weights
from services.weights.memory import weight_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder / "config.json", {"model_type": "llama"})
    write(folder / "tokenizer_config.json", {"model_max_length": 9})
    write(folder / "tokenizer.json", {})
    save_file({"a": np.ones((2, 3), "float32"), "b": np.zeros(5, "float16")}, weights(folder))
    return folder


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def changed(name: str, **changes: Any) -> Callable[[Path], None]:
    return lambda f: write(f / name, json.loads((f / name).read_text()) | changes)


def replaced(*names: str, content: bytes = b"") -> Callable[[Path], None]:
    """Other files in place of the weights."""

    def replace(folder: Path) -> None:
        weights(folder).unlink()
        for name in names:
            (folder / name).write_bytes(content)

    return replace


def rewritten(file: str, content: bytes) -> Callable[[Path], object]:
    return lambda f: (f / file).write_bytes(content)


def index(content: object) -> Callable[[Path], None]:
    return lambda f: write(f / "model.safetensors.index.json", content)


def headed(header: bytes, rest: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + rest


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "“model” does not exist"),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing: deploy a whole"),
    "config no JSON": (rewritten("config.json", b"{"), "config.json can't be read as JSON"),
    "config no text": (rewritten("config.json", b"\xff\xfe"), "can't be read as JSON"),
    "config too deep": (rewritten("config.json", b"[" * 100_000), "can't be read as JSON"),
    "config a list": (rewritten("config.json", b"[]"), "config.json holds no JSON object"),
    "tokenizer no JSON": (rewritten("tokenizer_config.json", b"{"), "tokenizer_config.json can't"),
    "remote code": (changed("config.json", auto_map={"AutoModel": "x.Y"}), "never run"),
    "remote tokenizer": (changed("tokenizer_config.json", auto_map={"a": "b"}), "never run"),
    "quantised": (changed("config.json", quantization_config={"bits": 4}), "quantised"),
    "no weights": (replaced(), "model.safetensors is missing: deploy"),
    "pickles": (replaced("pytorch_model.bin", "a.pt"), r"pickles \(a.pt, pytorch_model.bin\)"),
    "GGUF": (replaced("model.gguf"), "GGUF or ONNX; this engine reads safetensors"),
    "ONNX": (replaced("model.onnx"), "GGUF or ONNX; this engine reads safetensors"),
    "half an adapter": (
        replaced("adapter_model.safetensors", "optimizer.pt"),
        "adapter_config.json is missing beside",
    ),
    "missing shards": (
        index({"weight_map": {"a": "model-1.safetensors", "b": "../model.safetensors"}}),
        "index.json names model.safetensors, model-1.safetensors;",
    ),
    "no shards": (index({"weight_map": {}}), "index.json names none;"),
    "shards no object": (index({"weight_map": ["model.safetensors"]}), "index.json names none;"),
    "cut": (lambda f: weights(f).write_bytes(weights(f).read_bytes()[:-1]), "model.safetensors is"),
    "too long": (
        lambda f: weights(f).write_bytes(weights(f).read_bytes() + b"x"),
        "no whole safetensors file",
    ),
    "empty": (rewritten("model.safetensors", b""), "no whole safetensors file"),
    "no header": (rewritten("model.safetensors", b"PK\x03\x04" * 9), "no whole"),
    "header no JSON": (rewritten("model.safetensors", headed(b"{")), "no whole"),
    "header a list": (rewritten("model.safetensors", headed(b"[]")), "no whole"),
    "header of numbers": (rewritten("model.safetensors", headed(b'{"a": 1}')), "no whole"),
    "shape of words": (
        rewritten(
            "model.safetensors",
            headed(b'{"a": {"dtype": "F32", "shape": ["7"], "data_offsets": [0, 0]}}'),
        ),
        "no whole",
    ),
    "header too deep": (rewritten("model.safetensors", headed(b"[" * 100_000)), "no whole"),
    "header without offsets": (rewritten("model.safetensors", headed(b'{"a": {}}')), "no whole"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing: save"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_what_to_do(folder: Path, what: str) -> None:
    spoil, reason = REFUSED[what]
    spoil(folder)
    with pytest.raises(FailedPrecondition, match=reason) as refusal:
        ModelFolder(folder)
    assert str(folder.parent) not in refusal.value.message


@pytest.mark.parametrize(
    ("takes_adapters", "advice"),
    [(False, "base: deploy merged weights"), (True, "base: deploy it with base_model, the ID of")],
)
def test_an_adapter_is_named_as_such(folder: Path, takes_adapters: bool, advice: str) -> None:
    replaced("adapter_config.json", "adapter_model.bin")(folder)
    with pytest.raises(FailedPrecondition, match=advice):
        ModelFolder(folder, takes_adapters=takes_adapters)


def test_what_a_folder_holds(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04boom.")  # left alone beside safetensors
    (folder / "tokenizer.json").rename(folder / "vocab.json")
    found = ModelFolder(folder)
    assert found.config == {"model_type": "llama"}
    assert found.tokenizer_config == {"model_max_length": 9}
    assert found.weights == [weights(folder)]
    (folder / "tokenizer_config.json").unlink()
    assert ModelFolder(folder).tokenizer_config == {}


def test_weights_in_shards(folder: Path) -> None:
    for shard in ("x-2.safetensors", "x-1.safetensors"):
        shutil.copy(weights(folder), folder / shard)
    index({"weight_map": {"a": "x-2.safetensors", "b": "x-1.safetensors", "c": "x-2.safetensors"}})(
        folder
    )
    assert [file.name for file in find_weights(folder)] == ["x-1.safetensors", "x-2.safetensors"]


def test_the_digest_tells_weights_and_configurations_apart(folder: Path) -> None:
    def every() -> tuple[str, str]:
        found = ModelFolder(folder)
        return found.digest(), digest(folder, found.weights)

    seen = [every()]
    assert every() == seen[0]
    tensors = load_file(weights(folder))
    tensors["a"][0, 0] += 1  # same names, same shapes
    save_file(tensors, weights(folder))
    seen.append(every())
    changed("config.json", rope_theta=7)(folder)
    seen.append(every())
    assert len({own for own, _ in seen}) == len({whole for _, whole in seen}) == 3
    changed("tokenizer_config.json", model_max_length=8)(folder)
    own, whole = every()
    assert own == seen[-1][0]  # only weights and config.json count there
    assert whole != seen[-1][1]


@pytest.mark.parametrize("place", [0, 70_000, 2**20 - 1])
def test_large_weights_are_told_apart_by_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """A file of 1 MiB: 64 samples of 64 KiB leave nothing out."""
    monkeypatch.setattr(folders, "WHOLE_BYTES", 100)
    content = np.zeros(2**20, "uint8")
    save_file({"a": content}, tmp_path / "model.safetensors")
    before = digest(tmp_path, find_weights(tmp_path))
    content[place] = 1
    save_file({"a": content}, tmp_path / "model.safetensors")
    assert digest(tmp_path, find_weights(tmp_path)) != before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 99) | st.floats() | st.sampled_from(["F32", "7"]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
TENSOR = st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), JSON)
NEARLY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I64", "new", None]),
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "data_offsets": st.just([0, 3]) | JSON,
    }
)


@given(
    header=st.dictionaries(st.sampled_from(["a", "__metadata__"]), NEARLY | TENSOR | JSON) | JSON,
    end=st.integers(0, 4),
)
def test_any_header_is_refused_or_can_be_counted(
    header: object, end: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-header"
    folder.mkdir(exist_ok=True)
    weights(folder).write_bytes(headed(json.dumps(header).encode(), b"x" * end))
    try:
        found = find_weights(folder)
    except FailedPrecondition as refusal:
        refused = refusal.message
    else:
        assert weight_bytes(found, 4) >= 0
        return
    assert refused == "model.safetensors is no whole safetensors file: copy it again."

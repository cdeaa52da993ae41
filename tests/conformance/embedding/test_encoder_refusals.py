"""Folders that the torch engine refuses, each with a message that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from services.errors import FailedPrecondition
from tests.conformance.embedding.conftest import Load
from tests.conformance.embedding.tiny_encoders import add_modules, save_encoder, write_json

TORCH = TorchLoader(TorchSettings(device="cpu"))
POOLING = ("Pooling", "1_Pooling")
MEAN = {"pooling_mode": "mean"}

Break = Callable[[Path], Any]


def changed(file: str, **changes: Any) -> Break:
    def change(folder: Path) -> None:
        path = folder / file
        before = json.loads(path.read_text("utf-8")) if path.exists() else {}
        write_json(path, before | changes)

    return change


def written(file: str, content: str) -> Break:
    def write(folder: Path) -> None:
        (folder / file).write_text(content, "utf-8")

    return write


def parts(*kinds: tuple[str, str], pooling: dict[str, Any] | None = None) -> Break:
    return lambda folder: add_modules(folder, *kinds, pooling=pooling)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def without_a_layer(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if "layer.1" not in k}, file, {"format": "pt"})


def dense(**config: Any) -> Break:
    def add(folder: Path) -> None:
        add_modules(folder, POOLING, ("Dense", "2_Dense"), pooling=MEAN)
        defaults = {"in_features": 32, "out_features": 8, "bias": False}
        write_json(folder / "2_Dense" / "config.json", {**defaults, **config})
        save_file({"linear.weight": torch.ones(8, 32)}, folder / "2_Dense" / "model.safetensors")

    return add


def dense_pickle(folder: Path) -> None:
    dense()(folder)
    (folder / "2_Dense" / "model.safetensors").unlink()
    torch.save({}, folder / "2_Dense" / "pytorch_model.bin")


def outside(folder: Path) -> None:
    add_modules(folder, ("Pooling", "../1_Pooling"))


REFUSED: dict[str, tuple[Break, str]] = {
    "unknown kind": (changed("config.json", model_type="nonsense"), "“nonsense”"),
    "remote code": (changed("config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "remote tokenizer": (changed("tokenizer_config.json", auto_map={"a": "b"}), "auto_map"),
    "pickles": (pickled, "pytorch_model.bin.*never loaded"),
    "other weights": (changed("config.json", hidden_size=64), "belong together"),
    "half the weights": (without_a_layer, "lack 16 tensors"),
    "broken tokenizer": (written("tokenizer.json", "{}"), "tokenizer can't be loaded"),
    "modules no list": (written("modules.json", '{"a": 1}'), "no list of parts"),
    "no transformer": (
        lambda folder: write_json(
            folder / "modules.json", [{"path": "", "type": "x.models.StaticEmbedding"}]
        ),
        "StaticEmbedding",
    ),
    "no pooling": (parts(), "names no Pooling"),
    "part unknown": (parts(POOLING, ("LSTM", "2_LSTM"), pooling=MEAN), "LSTM"),
    "part out of place": (parts(("Dense", "1_Dense")), "Dense at a place"),
    "part outside": (outside, "outside of the model's"),
    "pooling unknown": (parts(POOLING, pooling={"pooling_mode": "best"}), "“best”"),
    "pooling missing": (parts(POOLING), "config.json is missing"),
    "odd length": (changed("sentence_bert_config.json", max_seq_length="x"), "max_seq_length"),
    "other task": (
        changed("sentence_bert_config.json", transformer_task="text-generation"),
        "feature-extraction",
    ),
    "prompts no object": (changed("config_sentence_transformers.json", prompts=["a"]), "prompts"),
    "default unknown": (
        changed("config_sentence_transformers.json", default_prompt_name="query"),
        "default_prompt_name",
    ),
    "dense activation": (dense(activation_function="os.system"), "os.system"),
    "dense shape": (dense(in_features=16), "don't fit its config.json"),
    "dense bias": (dense(bias=True), "don't fit its config.json"),
    "dense input": (dense(module_input_name="token_embeddings"), "one vector a text"),
    "dense pickle": (dense_pickle, "never loaded"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_folder_that_can_not_be_served_is_refused(
    tmp_path: Path, load: Load, what: str
) -> None:
    broken, message = REFUSED[what]
    folder = save_encoder(tmp_path / "model")
    broken(folder)
    with pytest.raises(FailedPrecondition, match=message) as caught:
        await load(TORCH, folder)
    assert str(tmp_path) not in caught.value.message


async def test_a_folder_that_is_not_there(tmp_path: Path, load: Load) -> None:
    with pytest.raises(FailedPrecondition, match="“gone” does not exist"):
        await load(TORCH, tmp_path / "gone")


@pytest.mark.parametrize(
    ("labels", "break_it", "scores_pairs", "message"),
    [
        (0, lambda folder: None, True, "belong together"),  # no classifier's weights
        (0, parts(POOLING, pooling=MEAN), True, "embedding model"),
        (1, lambda folder: None, False, "kind RERANK"),
        (3, lambda folder: None, True, "3 labels"),
        (
            1,
            changed("config.json", sentence_transformers={"activation_fn": "torch.nn.Softmax"}),
            True,
            "torch.nn.Softmax",
        ),
    ],
)
async def test_a_folder_of_the_other_kind_is_refused(
    tmp_path: Path,
    load: Load,
    labels: int,
    break_it: Break,
    scores_pairs: bool,
    message: str,
) -> None:
    folder = save_encoder(tmp_path, labels=labels)
    if not labels:
        changed("config.json", num_labels=1, id2label={"0": "x"}, label2id={"x": 0})(folder)
    break_it(folder)
    with pytest.raises(FailedPrecondition, match=message):
        await load(TORCH, folder, scores_pairs=scores_pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TorchSettings(device="abacus"), "Unknown device"),
        (TorchSettings(dtype="int3"), "int3"),
        (TorchSettings(encoder="best"), "Unknown encoder"),
    ],
)
async def test_settings_that_name_nothing_are_refused(
    tmp_path: Path, load: Load, settings: TorchSettings, message: str
) -> None:
    with pytest.raises(FailedPrecondition, match=message):
        await load(TorchLoader(settings), save_encoder(tmp_path), dtype="auto")

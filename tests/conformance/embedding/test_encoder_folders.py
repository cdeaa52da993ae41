"""What the torch engine makes of the files beside a transformer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from services.errors import FailedPrecondition
from tests.conformance.embedding.conftest import Load
from tests.conformance.embedding.reference import Reference, Vectors, inputs, matrix
from tests.conformance.embedding.tiny_encoders import (
    TEXTS,
    add_modules,
    save_encoder,
    write_json,
)

TORCH = TorchLoader(TorchSettings(device="cpu"))
MEAN = {"pooling_mode": "mean"}
POOLING = ("Pooling", "1_Pooling")
NORMALIZE = ("Normalize", "2_Normalize")


def weighted(states: Vectors) -> Vectors:
    weights = np.arange(1, len(states) + 1)[:, None]
    return (states * weights).sum(0) / weights.sum()


POOLS: list[tuple[dict[str, Any], Callable[[Vectors], Vectors]]] = [
    ({"pooling_mode": "cls"}, lambda x: x[0]),
    ({"pooling_mode": "lasttoken"}, lambda x: x[-1]),
    ({"pooling_mode": "max"}, lambda x: x.max(0)),
    ({"pooling_mode": "mean"}, lambda x: x.mean(0)),
    ({"pooling_mode": "mean_sqrt_len_tokens"}, lambda x: x.sum(0) / np.sqrt(len(x))),
    ({"pooling_mode": "weightedmean"}, weighted),
    ({"pooling_mode": ["cls", "max"]}, lambda x: np.concatenate([x[0], x.max(0)])),
    ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda x: x[0]),
    (
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        lambda x: np.concatenate([x.max(0), x.mean(0)]),
    ),
    ({"word_embedding_dimension": 32}, lambda x: x.mean(0)),
]


@pytest.mark.parametrize(("pooling", "pool"), POOLS)
async def test_states_are_pooled_as_the_files_say(
    tmp_path: Path, load: Load, pooling: dict[str, Any], pool: Callable[[Vectors], Vectors]
) -> None:
    folder = add_modules(save_encoder(tmp_path), POOLING, pooling=pooling)
    encoder = await load(TORCH, folder)
    batch = inputs(encoder, TEXTS)
    reference = Reference(folder)
    expected = np.stack([pool(reference.states(tokens.ids)) for tokens in batch])
    assert encoder.info.dimensions == expected.shape[1]
    own = matrix(await encoder.encode(batch, normalize=False))
    assert np.abs(own - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("family", "changes", "place"),
    [("bert", {}, None), ("qwen3", {}, -1), ("qwen3", {"is_causal": True}, -1)],
)
async def test_a_bare_transformer_is_pooled_by_its_kind(
    tmp_path: Path, load: Load, family: str, changes: dict[str, Any], place: int | None
) -> None:
    folder = save_encoder(tmp_path, family, **changes)
    encoder = await load(TORCH, folder)
    assert not encoder.info.normalizes
    batch = inputs(encoder, TEXTS)
    reference = Reference(folder)
    states = [reference.states(tokens.ids) for tokens in batch]
    expected = np.stack([x.mean(0) if place is None else x[place] for x in states])
    own = matrix(await encoder.encode(batch, normalize=False))
    assert np.abs(own - expected).max() < 1e-4


@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean", "max"])
async def test_a_prompt_counts_in_pooling_or_not(
    tmp_path: Path, load: Load, mode: str, included: bool
) -> None:
    folder = add_modules(
        save_encoder(tmp_path),
        POOLING,
        pooling={"pooling_mode": mode, "include_prompt": included},
        prompts={"query": "sky: ", "document": ""},
        default_prompt="query",
    )
    encoder = await load(TORCH, folder)
    assert encoder.info.prompts == {"query": "sky: ", "document": ""}
    assert encoder.info.default_prompt == "query"
    [tokens] = inputs(encoder, ["the red water"], prefix="sky: ")
    states = Reference(folder).states(tokens.ids)
    first = 0 if included else encoder.text.overhead(prefix="sky: ") - 1
    kept = states[first:]
    weights = np.arange(first + 1, len(states) + 1)[:, None]
    expected = {
        "mean": kept.mean(0),
        "cls": kept[0],
        "weightedmean": (kept * weights).sum(0) / weights.sum(),
        "max": kept.max(0),
    }[mode]
    others = inputs(encoder, TEXTS)
    own = matrix(await encoder.encode([*others, tokens], normalize=False))[-1]
    assert np.abs(own - expected).max() < 1e-4


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("prefix", ["query: ", "[sky]", "Instruct: find it\nQuery:", " ", "？"])
async def test_a_prefix_is_tokenized_with_its_text(
    tmp_path: Path, load: Load, family: str, prefix: str
) -> None:
    """As if both were one string; tokens of a word may differ after a space."""
    encoder = await load(TORCH, save_encoder(tmp_path, family))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        [tokens] = inputs(encoder, [text], prefix=prefix)
        assert list(tokens.ids) == tokenizer(prefix + text, truncation=False)["input_ids"]


async def test_texts_are_made_lower_case_where_the_files_say_so(tmp_path: Path, load: Load) -> None:
    folder = save_encoder(tmp_path, "roberta")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 7, "do_lower_case": True})
    encoder = await load(TORCH, folder)
    assert encoder.info.context_length == 7
    shout, whisper = encoder.text.encode(["THE SKY", "the sky"])
    assert shout == whisper


@pytest.mark.parametrize("residual", [False, True])
async def test_dense_parts_are_computed(tmp_path: Path, load: Load, residual: bool) -> None:
    folder = add_modules(
        save_encoder(tmp_path), POOLING, NORMALIZE, ("Dense", "3_Dense"), NORMALIZE, pooling=MEAN
    )
    torch.manual_seed(3)
    tensors = {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}
    if residual:
        tensors["residual.weight"] = torch.randn(8, 32)
    config = {
        "in_features": 32,
        "out_features": 8,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
        "use_residual": residual,
    }
    write_json(folder / "3_Dense" / "config.json", config)
    save_file(tensors, folder / "3_Dense" / "model.safetensors")
    encoder = await load(TORCH, folder)
    assert (encoder.info.dimensions, encoder.info.normalizes) == (8, True)
    batch = inputs(encoder, TEXTS)
    means = Reference(folder).mean(batch)
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    weight, bias = tensors["linear.weight"].numpy(), tensors["linear.bias"].numpy()
    expected = np.tanh(units @ weight.T + bias)
    if residual:
        expected = expected + units @ tensors["residual.weight"].numpy().T
    own = matrix(await encoder.encode(batch, normalize=False))
    assert np.abs(own - expected).max() < 1e-4


async def test_the_transformer_may_lie_in_a_folder_of_its_own(tmp_path: Path, load: Load) -> None:
    save_encoder(tmp_path / "0_Transformer")
    add_modules(tmp_path, POOLING, NORMALIZE, pooling={"pooling_mode": "cls"})
    parts = json.loads((tmp_path / "modules.json").read_text("utf-8"))
    parts[0]["path"] = "0_Transformer"
    write_json(tmp_path / "modules.json", parts)
    encoder = await load(TORCH, tmp_path)
    assert encoder.info.normalizes
    await encoder.probe()


@pytest.mark.parametrize(
    ("file", "content", "shortens"),
    [
        ("config.json", {"matryoshka_dimensions": [8, 16]}, True),
        ("config.json", {"is_matryoshka": True}, True),
        ("config.json", {"matryoshka_dimensions": []}, False),
        ("config_sentence_transformers.json", {"truncate_dim": 16}, True),
        ("config_sentence_transformers.json", {"truncate_dim": None}, False),
        ("README.md", "---\ntags:\n- loss:MatryoshkaLoss\n---\n# Model", True),
        ("README.md", "---\ntags:\n- sentence-similarity\n---\nloss:MatryoshkaLoss", False),
        ("README.md", "- loss:MatryoshkaLoss", False),
    ],
)
async def test_shortening_is_what_the_folder_says(
    tmp_path: Path, load: Load, file: str, content: Any, shortens: bool
) -> None:
    folder = add_modules(save_encoder(tmp_path), POOLING, pooling=MEAN)
    if isinstance(content, str):
        (folder / file).write_text(content, "utf-8")
    else:
        before = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        write_json(folder / file, before | content)
    assert (await load(TORCH, folder)).info.shortening == shortens


async def test_lengths(tmp_path: Path, load: Load) -> None:
    """The files' length, else the tokenizer's, at most what the positions hold."""
    folder = save_encoder(tmp_path, "roberta", pad_token_id=1)  # 130 positions from the third on
    assert (await load(TORCH, folder)).info.context_length == 128
    assert (await load(TORCH, folder, context_length=20)).info.context_length == 20
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    assert (await load(TORCH, folder)).info.context_length == 128
    with pytest.raises(FailedPrecondition, match="weights hold 128"):
        await load(TORCH, folder, context_length=129)


async def test_the_fingerprint_tells_models_and_their_files_apart(
    tmp_path: Path, load: Load
) -> None:
    folder = add_modules(save_encoder(tmp_path), POOLING, pooling=MEAN)
    first = (await load(TORCH, folder)).info.build
    assert (await load(TORCH, folder)).info.build == first
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    second = (await load(TORCH, folder)).info.build
    save_encoder(folder, intermediate_size=48)
    assert len({first, second, (await load(TORCH, folder)).info.build}) == 3

"""LoRA beside the base: each row of a batch gets what its merged weights would give."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from services.errors import FailedPrecondition
from services.inference.engines.decoder import Decoder
from tests.unit.inference.engines.decoder_models import compact, reference

TARGETS = {
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "phi": ("k_proj", "dense", "fc1", "fc2"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h"),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def save_adapter(
    folder: Path, model: PreTrainedModel, targets: tuple[str, ...], seed: int, **changes: Any
) -> Path:
    """Saves a random adapter as PEFT does."""
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "r": 2 + seed,
        "lora_alpha": 3,
        "use_rslora": seed % 2 == 0,
        "target_modules": list(targets),
        "bias": "none",
        **changes,
    }
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if path.split(".")[-1] not in targets:
            continue
        shape = module.weight.shape[::-1] if isinstance(module, Conv1D) else module.weight.shape
        down = torch.randn(config["r"], shape[1], generator=generator) * 0.3
        up = torch.randn(shape[0], config["r"], generator=generator) * 0.3
        tensors[f"base_model.model.{path}.lora_A.weight"] = down
        tensors[f"base_model.model.{path}.lora_B.weight"] = up
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(variant: str, folder: Path) -> PreTrainedModel:
    """The base with an adapter in its weights: `W + s·BA`."""
    model = reference(variant)
    config = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config["use_rslora"] else config["r"])
    tensors = load_file(folder / "adapter_model.safetensors")
    for key, down in tensors.items():
        if ".lora_A." in key:
            module = model.get_submodule(key.split(".lora_A.")[0].removeprefix("base_model.model."))
            change = scale * tensors[key.replace(".lora_A.", ".lora_B.")] @ down
            module.weight.data += change.t() if isinstance(module, Conv1D) else change
    return model


TOKENS = torch.randint(320, (5, 12), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", TARGETS)
@torch.inference_mode()
def test_a_batch_of_mixed_adapters(variant: str, tmp_path: Path) -> None:
    base = reference(variant)
    decoder = compact(base)
    folders = {
        name: save_adapter(tmp_path / name, base, TARGETS[variant][: 9 - seed], seed)
        for seed, name in enumerate("abc", start=1)
    }
    for name, folder in folders.items():
        decoder.add_adapter(name, folder)
    plain = decoder(TOKENS).logits
    rows = ["b", None, "a", "c", "b"]
    decoder.rows(rows)
    together = decoder(TOKENS).logits
    models = {None: base} | {name: merged(variant, folder) for name, folder in folders.items()}
    for row, name in enumerate(rows):
        expected = models[name](TOKENS[row : row + 1], use_cache=False).logits[0]
        assert float((together[row] - expected).abs().max()) < 1e-4
    assert float((together[0] - plain[0]).abs().max()) > 1e-2
    assert torch.equal(decoder(TOKENS).logits, plain)  # rows hold for one pass


@torch.inference_mode()
def test_adapters_come_and_go(tmp_path: Path) -> None:
    base = reference("llama")
    decoder = compact(base)
    plain = decoder(TOKENS).logits
    a, b = (save_adapter(tmp_path / n, base, TARGETS["llama"], s) for s, n in enumerate("ab", 1))
    decoder.add_adapter("a", a)
    decoder.add_adapter("b", b)
    with_b = run(decoder, "b")
    decoder.drop_adapter("a")
    assert torch.allclose(run(decoder, "b"), with_b, atol=1e-5)
    with pytest.raises(FailedPrecondition, match="“a”"):
        decoder.rows(["a"] * len(TOKENS))
    decoder.add_adapter("b", a)  # replaces
    assert not torch.allclose(run(decoder, "b"), with_b, atol=1e-3)
    decoder.drop_adapter("b")
    decoder.drop_adapter("never there")
    assert torch.equal(decoder(TOKENS).logits, plain)


def test_rows_of_another_batch_are_an_error(tmp_path: Path) -> None:
    base = reference("llama")
    decoder = compact(base)
    decoder.add_adapter("a", save_adapter(tmp_path / "a", base, TARGETS["llama"], 1))
    decoder.rows(["a"])
    with pytest.raises(ValueError, match="1 rows"):
        decoder(TOKENS)


def run(decoder: Decoder, name: str) -> Tensor:
    decoder.rows([name] * len(TOKENS))
    return decoder(TOKENS).logits


def rewrite(folder: Path, **tensors: Tensor | None) -> None:
    file = folder / "adapter_model.safetensors"
    kept = {**load_file(file), **tensors}
    save_file({key: value for key, value in kept.items() if value is not None}, file)


Q = "base_model.model.model.layers.0.self_attn.q_proj."
REFUSED_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "other kind": ({"peft_type": "IA3"}, "IA3"),
    "dora": ({"use_dora": True}, "DoRA"),
    "bias": ({"bias": "lora_only"}, "bias"),
    "whole modules": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "alphas": ({"alpha_pattern": {"q_proj": 3}}, "alpha_pattern"),
    "pissa": ({"init_lora_weights": "pissa"}, "pissa"),
    "no alpha": ({"lora_alpha": None}, "lora_alpha"),
    "alpha a word": ({"lora_alpha": "big"}, "lora_alpha"),
}
REFUSED_TENSORS: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "other shape": ({f"{Q}lora_A.weight": torch.ones(3, 31)}, "another base"),
    "ranks": ({f"{Q}lora_A.weight": torch.ones(2, 32)}, "don't fit each other"),
    "one side": ({f"{Q}lora_B.weight": None}, "don't fit each other"),
    "not finite": ({f"{Q}lora_B.weight": torch.full((32, 3), torch.nan)}, "not finite"),
    "embedding": (
        {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(2, 2)},
        "embed_tokens",
    ),
    "head": (
        {
            "base_model.model.lm_head.lora_A.weight": torch.ones(1, 32),
            "base_model.model.lm_head.lora_B.weight": torch.ones(320, 1),
        },
        "lm_head",
    ),
}


@pytest.fixture
def base() -> PreTrainedModel:
    return reference("llama")


@pytest.mark.parametrize("case", REFUSED_CONFIGS)
def test_configurations_that_are_refused(case: str, base: PreTrainedModel, tmp_path: Path) -> None:
    changes, reason = REFUSED_CONFIGS[case]
    folder = save_adapter(tmp_path / "a", base, TARGETS["llama"], 1, **changes)
    refused(base, folder, reason)


@pytest.mark.parametrize("case", REFUSED_TENSORS)
def test_weights_that_are_refused(case: str, base: PreTrainedModel, tmp_path: Path) -> None:
    tensors, reason = REFUSED_TENSORS[case]
    folder = save_adapter(tmp_path / "a", base, TARGETS["llama"], 1)
    rewrite(folder, **tensors)
    refused(base, folder, reason)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe{"])
def test_broken_folders_are_refused(
    name: str, content: bytes | None, base: PreTrainedModel, tmp_path: Path
) -> None:
    folder = save_adapter(tmp_path / "a", base, TARGETS["llama"], 1)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    refused(base, folder, name)


def refused(base: PreTrainedModel, folder: Path, reason: str) -> None:
    decoder = compact(base)
    with pytest.raises(FailedPrecondition, match=reason):
        decoder.add_adapter("a", folder)
    with pytest.raises(FailedPrecondition):
        decoder.rows(["a"])

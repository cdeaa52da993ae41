"""Folders that load, and folders that are refused with a reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.errors import FailedPrecondition
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.tiny_models import save_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("original") / "model", max_position_embeddings=256)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


async def load(folder: Path, **spec: object) -> LoadedModel:
    settings = TorchSettings(device="cpu", dtype="float32", torch_threads=1, max_context=128)
    return await TorchLoader(settings).load(
        ModelSpec("m", "1", folder, **spec),  # type: ignore[arg-type]
        lambda share: None,
    )


def edit_json(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps(content))


def drop_tensor(file: Path) -> None:
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, {"format": "pt"})


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


REFUSALS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "does not exist"),
    "remote code": (
        lambda f: edit_json(f / "config.json", auto_map={"AutoModel": "x.Y"}),
        "never run",
    ),
    "remote tokenizer": (
        lambda f: edit_json(f / "tokenizer_config.json", auto_map={"AutoTokenizer": "x.Y"}),
        "never run",
    ),
    "pickle": (pickle_only, "pickles"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer can't"),
    "unknown type": (lambda f: edit_json(f / "config.json", model_type="elf"), "“elf”"),
    "other shapes": (lambda f: edit_json(f / "config.json", hidden_size=48), "belong together"),
    "missing tensor": (lambda f: drop_tensor(f / "model.safetensors"), "lack 1 tensors"),
    "encoder-decoder": (
        lambda f: edit_json(f / "config.json", model_type="t5", is_encoder_decoder=True),
        "decoder",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_refusals_say_what_to_do(name: str, folder: Path) -> None:
    spoil, reason = REFUSALS[name]
    spoil(folder)
    with pytest.raises(FailedPrecondition, match=reason) as refusal:
        await load(folder)
    assert str(folder) not in str(refusal.value)


async def test_an_adapter_is_named_as_such(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match="LoRA adapter without its base: deploy it with"):
        await load(folder)


async def test_pickles_beside_safetensors_are_left_alone(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(b"\x80\x04boom.")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04boom.")
    loaded = await load(folder)
    await loaded.engine.close()


async def test_context_lengths(folder: Path) -> None:
    for wanted, expected in ((0, 128), (64, 64), (256, 256)):
        loaded = await load(folder, context_length=wanted)
        assert loaded.engine.info.context_length == expected
        await loaded.engine.close()
    with pytest.raises(FailedPrecondition, match="hold 256"):
        await load(folder, context_length=257)


async def test_what_the_engine_says_of_itself(folder: Path) -> None:
    shares: list[float] = []
    settings = TorchSettings(device="cpu", dtype="float32", torch_threads=1)
    spec = ModelSpec("m", "1", folder, dtype="bfloat16", max_batch_size=3)
    loaded = await TorchLoader(settings).load(spec, shares.append)
    info = loaded.engine.info
    assert (info.name, info.device, info.dtype, info.slots) == ("torch", "cpu", "bfloat16", 3)
    assert info.parameter_count == sum(
        t.numel() for t in load_file(folder / "model.safetensors").values()
    )
    assert torch.__version__ in info.build
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    await loaded.engine.close()

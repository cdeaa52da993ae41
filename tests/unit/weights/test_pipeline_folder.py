"""A pipeline's folder is taken or refused with a reason that names the component."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.errors import FailedPrecondition
from services.weights.pipeline import Component, PipelineFolder

INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
}
UNET, TEXT = "diffusion_pytorch_model", "model"

Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "drawer"
    for name in ("scheduler", "text_encoder", "tokenizer", "unet"):
        (folder / name).mkdir(parents=True)
    write(folder / "model_index.json", INDEX)
    write(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler"})
    write(folder / "tokenizer" / "tokenizer_config.json", {})
    write(folder / "text_encoder" / "config.json", {"model_type": "clip_text_model"})
    write(folder / "unet" / "config.json", {"in_channels": 4})
    save(folder / "text_encoder" / f"{TEXT}.safetensors")
    save(folder / "unet" / f"{UNET}.safetensors")
    return folder


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def save(file: Path) -> None:
    save_file({"a": np.ones((2, 3), "float32")}, file)


def indexed(**changes: Any) -> Change:
    return lambda f: write(f / "model_index.json", INDEX | changes)


def written(name: str, content: object) -> Change:
    return lambda f: write(f / name, content)


def renamed(*pairs: tuple[str, str]) -> Change:
    def rename(folder: Path) -> None:
        for old, new in pairs:
            (folder / old).rename(folder / new)

    return rename


def unet(suffix: str) -> tuple[str, str]:
    return f"unet/{UNET}.safetensors", f"unet/{UNET}{suffix}"


def text(suffix: str) -> tuple[str, str]:
    return f"text_encoder/{TEXT}.safetensors", f"text_encoder/{TEXT}{suffix}"


def code_beside(folder: Path) -> None:
    indexed(unet=["own_unet", "OwnUNet"])(folder)
    (folder / "unet" / "own_unet.py").write_text("boom")


def shards(index: str, *names: str) -> Change:
    def divide(folder: Path) -> None:
        file = folder / "unet" / f"{UNET}.safetensors"
        for name in names:
            shutil.copy(file, folder / "unet" / name)
        file.unlink()
        write(folder / "unet" / index, {"weight_map": dict(enumerate(names))})

    return divide


REFUSED: dict[str, tuple[Change, str]] = {
    "no folder": (shutil.rmtree, "“drawer” does not exist"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    "index a list": (written("model_index.json", []), "no JSON object"),
    "no class": (written("model_index.json", {}), "names no class of diffusers"),
    "class of its own": (indexed(_class_name=["mine", "Mine"]), "never run"),
    "library of its own": (indexed(unet=["os", "system"]), "Python code to run for unet .“os”"),
    "library with a path": (indexed(unet=["os.path", "join"]), "never run"),
    "code beside": (code_beside, "Python code to run for unet .“own_unet”"),
    "remote code": (written("unet/config.json", {"auto_map": {"a": "b"}}), "In unet: config.json"),
    "remote tokenizer": (
        written("tokenizer/tokenizer_config.json", {"auto_map": {"a": "b"}}),
        "In tokenizer: tokenizer_config.json names Python code",
    ),
    "three words": (indexed(unet=["diffusers", "UNet", "x"]), "library and class of unet"),
    "no words": (indexed(unet=["diffusers", 7]), "library and class of unet"),
    "half a word": (indexed(unet=["diffusers", None]), "library and class of unet"),
    "no part": (lambda f: shutil.rmtree(f / "unet"), "names unet, which is no folder"),
    "part outside": (indexed(**{"../drawer/unet": INDEX["unet"]}), "no folder in the model's"),
    "part upwards": (indexed(**{"..": INDEX["unet"]}), "no folder in the model's"),
    "no config": (lambda f: (f / "unet" / "config.json").unlink(), "In unet: config.json is miss"),
    "no weights": (
        lambda f: (f / unet("")[0]).unlink(),
        r"In unet: diffusion_pytorch_model\.safetensors is missing",
    ),
    "pickles": (renamed(unet(".bin")), r"In unet: .* pickles \(diffusion_pytorch_model\.bin\)"),
    "pickles alone": (
        lambda f: [renamed(text(".bin"))(f), (f / "text_encoder" / "config.json").unlink()],
        "In text_encoder: config.json is missing",
    ),
    "cut": (
        lambda f: (f / unet("")[0]).write_bytes((f / unet("")[0]).read_bytes()[:-1]),
        "In unet: .* no whole safetensors file",
    ),
    "quantised": (
        written("text_encoder/config.json", {"quantization_config": {}}),
        "In text_encoder: .* quantised",
    ),
    "a shard by a pickle's name": (
        shards(f"{UNET}.safetensors.index.json", f"{UNET}-1.safetensors", "other.bin"),
        "In unet: Weights are missing: .*index.json names other.bin;",
    ),
    "variants without any in common": (
        renamed(unet(".fp16.safetensors"), text(".bf16.safetensors")),
        r"different variants \(bf16, fp16\)",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals_say_what_to_do(folder: Path, what: str) -> None:
    spoil, reason = REFUSED[what]
    spoil(folder)
    with pytest.raises(FailedPrecondition, match=reason) as refusal:
        PipelineFolder(folder)
    assert str(folder.parent) not in refusal.value.message


def test_what_a_folder_holds(folder: Path) -> None:
    (folder / "unet" / f"{UNET}.bin").write_bytes(b"\x80\x04boom.")  # left alone
    found = PipelineFolder(folder)
    assert (found.kind, found.variant) == ("StableDiffusionPipeline", "")
    assert list(found.components) == ["scheduler", "text_encoder", "tokenizer", "unet"]
    assert found.components["unet"] == Component(
        name="unet",
        path=folder / "unet",
        library="diffusers",
        kind="UNet2DConditionModel",
        config={"in_channels": 4},
        weights=(folder / "unet" / f"{UNET}.safetensors",),
    )
    assert found.components["tokenizer"].weights == ()
    assert found.weights == [folder / text("")[0], folder / unet("")[0]]
    before = found.digest()
    write(folder / "scheduler" / "scheduler_config.json", {"_class_name": "PNDMScheduler"})
    assert PipelineFolder(folder).digest() != before


FP16 = ".fp16.safetensors"


@pytest.mark.parametrize(
    ("change", "variant", "files"),
    [
        (lambda f: save(f / unet(FP16)[1]), "", {f"{UNET}.safetensors", "model.safetensors"}),
        (renamed(unet(FP16)), "fp16", {f"{UNET}{FP16}", "model.safetensors"}),
        (renamed(unet(FP16), text(FP16)), "fp16", {f"{UNET}{FP16}", f"model{FP16}"}),
        (
            lambda f: [renamed(unet(FP16))(f), save(f / text(FP16)[1])],
            "fp16",  # the loaders take it wherever it is
            {f"{UNET}{FP16}", f"model{FP16}"},
        ),
        (
            lambda f: [renamed(unet(FP16))(f), save(f / unet(".ema.safetensors")[1])],
            "fp16",
            {f"{UNET}{FP16}", "model.safetensors"},
        ),
        (
            lambda f: [
                renamed(unet(FP16), text(".ema.safetensors"))(f),
                save(f / unet(".ema.safetensors")[1]),
            ],
            "ema",
            {f"{UNET}.ema.safetensors", "model.ema.safetensors"},
        ),
        (
            shards(f"{UNET}.safetensors.index.json", f"{UNET}-1.safetensors", "b.safetensors"),
            "",
            {f"{UNET}-1.safetensors", "b.safetensors", "model.safetensors"},
        ),
        (
            shards(f"{UNET}.safetensors.index.fp16.json", f"{UNET}.fp16-1.safetensors"),
            "fp16",
            {f"{UNET}.fp16-1.safetensors", "model.safetensors"},
        ),
    ],
)
def test_which_weights_are_used(
    folder: Path, change: Change, variant: str, files: set[str]
) -> None:
    change(folder)
    found = PipelineFolder(folder)
    assert found.variant == variant
    assert {file.name for file in found.weights} == files


@pytest.mark.parametrize(("variant", "shard"), [("", "5GB"), ("fp16", "5GB"), ("", "4KB")])
def test_a_folder_that_diffusers_wrote(tmp_path: Path, variant: str, shard: str) -> None:
    """What is found there is what diffusers reads from it."""
    diffusers = pytest.importorskip("diffusers")
    channels = {"block_out_channels": (4, 8), "norm_num_groups": 2, "layers_per_block": 1}
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        **channels,
    )
    pipeline = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler())
    pipeline.save_pretrained(tmp_path, variant=variant or None, max_shard_size=shard)
    found = PipelineFolder(tmp_path)
    assert (found.kind, found.variant) == ("DDIMPipeline", variant)
    assert (len(found.components["unet"].weights) > 1) == (shard == "4KB")
    loaded = diffusers.DiffusionPipeline.from_pretrained(
        found.path,
        variant=found.variant or None,
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    assert type(loaded).__name__ == found.kind
    weights = unet.state_dict()
    assert all(bool((weights[key] == x).all()) for key, x in loaded.unet.state_dict().items())
    for file in found.weights:
        file.unlink()
    with pytest.raises(FailedPrecondition, match="In unet"):
        PipelineFolder(tmp_path)


def test_modules_of_diffusers_are_known(folder: Path) -> None:
    pytest.importorskip("diffusers")
    indexed(unet=["stable_diffusion", "StableDiffusionSafetyChecker"])(folder)
    assert PipelineFolder(folder).components["unet"].library == "stable_diffusion"

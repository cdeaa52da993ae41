"""Folders that can't be loaded: each is refused with what to do."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.errors import FailedPrecondition
from services.image.engine import ImageModel, ImageModelSpec
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from tests.conformance.image.drawing import draw_one, drawing_of, plan_for
from tests.conformance.image.tiny_pipelines import save

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(
    folder: Path, settings: DiffusersSettings | None = None, dtype: str = "auto"
) -> ImageModel:
    settings = settings or DiffusersSettings(device="cpu", dtype="float32", batching="off")
    spec = ImageModelSpec("model", "1", folder, dtype)
    return asyncio.run(DiffusersLoader(settings).load(spec, lambda _share: None))


@pytest.fixture
def folder(folders: Path, tmp_path: Path) -> Path:
    """A copy of a good one, to be broken."""
    if not (folders / "sd").is_dir():
        save("sd", folders)
    return shutil.copytree(folders / "sd", tmp_path / "broken")


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def pickle_only(folder: Path) -> None:
    (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin")


def cut_short(folder: Path) -> None:
    file = folder / "unet" / WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda folder: (folder / "model_index.json").unlink(), "model_index.json"),
    "no folder": (lambda folder: shutil.rmtree(folder), "does not exist"),
    "no unet": (lambda folder: shutil.rmtree(folder / "unet"), "unet"),
    "no vae weights": (lambda folder: (folder / "vae" / WEIGHTS).unlink(), "vae"),
    "pickles": (pickle_only, "pickle"),
    "cut short": (cut_short, "safetensors"),
    "another pipeline": (
        lambda folder: edit(folder / "model_index.json", _class_name="KandinskyPipeline"),
        "StableDiffusionXLPipeline",
    ),
    "remote pipeline": (
        lambda folder: edit(folder / "model_index.json", _class_name=["mine", "Mine"]),
        "code",
    ),
    "remote component": (
        lambda folder: (
            (folder / "unet" / "mine.py").write_text("raise SystemExit"),
            edit(folder / "model_index.json", unet=["mine", "Mine"]),
        ),
        "code",
    ),
    "parts of different sizes": (
        lambda folder: edit(folder / "unet" / "config.json", cross_attention_dim=48),
        "parts",
    ),
    "no tokenizer": (
        lambda folder: [file.unlink() for file in (folder / "tokenizer").iterdir()],
        "vocabulary",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_folder_is_refused(case: str, folder: Path) -> None:
    spoil, said = BREAKS[case]
    spoil(folder)
    with pytest.raises(FailedPrecondition) as refused:
        load(folder)
    assert said in refused.value.message
    assert str(folder) not in refused.value.message


def test_a_missing_safety_checker_is_not_missed(folder: Path) -> None:
    edit(folder / "model_index.json", safety_checker=[None, None], requires_safety_checker=True)
    model = load(folder)
    asyncio.run(model.probe())
    asyncio.run(model.close())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_number_types(dtype: str, folder: Path) -> None:
    model = load(folder, dtype=dtype)
    try:
        assert model.info.dtype == dtype
        plan = plan_for(model)
        assert asyncio.run(draw_one(model, plan, drawing_of())) == asyncio.run(
            draw_one(model, plan, drawing_of())
        )
    finally:
        asyncio.run(model.close())


def test_unknown_number_types_and_devices_are_refused(folder: Path) -> None:
    with pytest.raises(FailedPrecondition, match="int3"):
        load(folder, dtype="int3")
    with pytest.raises(FailedPrecondition, match="tpu"):
        load(folder, DiffusersSettings(device="tpu"))


def test_the_settings_choose_how_batches_run(folder: Path) -> None:
    most = {
        batching: load(folder, DiffusersSettings(device="cpu", batching=batching, max_batch=4))
        for batching in ("any", "off")
    }
    assert {name: model.info.max_batch for name, model in most.items()} == {"any": 4, "off": 1}
    plan = plan_for(most["any"])

    async def draw_both(model: ImageModel) -> None:
        drawn = await model.draw(plan, [drawing_of(1), drawing_of(2)], lambda _s, _l: True)
        assert drawn is not None
        assert len({picture.tobytes() for picture in drawn.pictures}) == 2
        await model.close()

    for model in most.values():
        asyncio.run(draw_both(model))
    with pytest.raises(ValueError, match="batching"):
        DiffusersLoader(DiffusersSettings(batching="sometimes"))

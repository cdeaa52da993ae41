"""Models are converted once, whole or not at all, and what can't be converted is told why."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from services.errors import FailedPrecondition
from services.inference.engine import ModelSpec
from services.inference.engines.openvino_cache import MANIFEST, Converted, ConvertedModels
from services.inference.engines.openvino_loader import OpenVinoLoader
from services.inference.engines.openvino_settings import OpenVinoSettings
from services.weights.folder import ModelFolder
from tests.conformance.tiny_models import models_folder, save_model

pytest.importorskip("openvino_genai", reason="the extra `openvino` is not installed")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return ModelFolder(save_model(models_folder(tmp_path_factory) / "model"))


@pytest.fixture(scope="module")
def original(source: ModelFolder) -> Converted:
    return asyncio.run(ConvertedModels(source.path.parent / "openvino", 8).get(source, "f32"))


@pytest.fixture
def cached(original: Converted, tmp_path: Path) -> Path:
    """A cache of its own that holds the converted model."""
    folder = tmp_path / "cache"
    shutil.copytree(original.folder, folder / original.folder.name)
    return folder


def identity(converted: Converted) -> list[tuple[str, int]]:
    """Files by name and inode: a new conversion has others."""
    return sorted((file.name, file.stat().st_ino) for file in converted.folder.iterdir())


async def test_a_model_is_converted_once(source: ModelFolder, cached: Path) -> None:
    first = await ConvertedModels(cached, 8).get(source, "f32")
    before = identity(first)
    again = await ConvertedModels(cached, 8).get(source, "f32")
    assert identity(again) == before
    assert again.parameter_count == first.parameter_count > 0


def folders(cached: Path) -> list[Path]:
    return list(cached.iterdir())


def truncate(folder: Path) -> None:
    file = folder / "openvino_model.bin"
    file.write_bytes(file.read_bytes()[:-64])


def lose(folder: Path) -> None:
    (folder / "openvino_model.xml").unlink()


def scribble(folder: Path) -> None:
    (folder / MANIFEST).write_text("[]")


@pytest.mark.parametrize("damage", [truncate, lose, scribble])
async def test_damage_is_found_before_loading(
    damage: object, source: ModelFolder, cached: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = ConvertedModels(cached, 8)
    converted = await models.get(source, "f32")
    assert callable(damage)
    damage(converted.folder)
    assert models._find(converted.folder.name) is None
    assert not converted.folder.exists()
    assert "damaged" in caplog.text


async def test_what_only_openvino_finds_broken_is_made_anew(
    source: ModelFolder, cached: Path, caplog: pytest.LogCaptureFixture
) -> None:
    converted = await ConvertedModels(cached, 8).get(source, "f32")
    model = converted.folder / "openvino_model.xml"
    model.write_bytes(b"x" * model.stat().st_size)
    settings = OpenVinoSettings(cache=cached, dtype="float32", max_context=64, threads=1)
    spec = ModelSpec("m", "1", source.path)
    loaded = await OpenVinoLoader(settings).load(spec, lambda share: None)
    try:
        await loaded.engine.probe()
    finally:
        await loaded.engine.close()
    assert "made anew" in caplog.text


async def test_only_so_many_are_kept(source: ModelFolder, cached: Path) -> None:
    [used] = folders(cached)
    for age in range(1, 5):
        other = cached / f"other-{age}"
        shutil.copytree(used, other)
        os.utime(other / MANIFEST, (1_000_000 - age, 1_000_000 - age))
    stale, fresh = cached / "partial-old", cached / "partial-new"
    stale.mkdir()
    fresh.mkdir()
    os.utime(stale, (1_000_000, 1_000_000))
    await ConvertedModels(cached, 3).get(source, "f32")
    kept = [used.name, "other-1", "other-2", "partial-new"]
    assert sorted(folder.name for folder in folders(cached)) == sorted(kept)


async def test_windows_shorter_than_the_context_are_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "sliding", "mistral-sliding")
    loader = OpenVinoLoader(OpenVinoSettings(cache=tmp_path / "cache", dtype="float32"))
    with pytest.raises(FailedPrecondition, match="sliding attention over 6 tokens"):
        await loader.load(ModelSpec("m", "1", folder), lambda share: None)


async def test_what_can_not_be_converted_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] += 1  # weights of other shapes
    (folder / "config.json").write_text(json.dumps(config))
    models = ConvertedModels(tmp_path / "cache", 8)
    with pytest.raises(FailedPrecondition, match="can't be converted"):
        await models.get(ModelFolder(folder), "f32")
    assert folders(tmp_path / "cache") == []

"""Every image engine: the echo engine, and diffusers with a tiny pipeline of each family."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.image.engine import ImageModel, ImageModelSpec
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from services.image.engines.echo_engine import EchoLoader, EchoSettings
from tests.conformance.image.tiny_pipelines import PIPELINES, SIDE, save

SETTINGS = DiffusersSettings(device="cpu", dtype="float32", max_batch=2)
DTYPES = {"velocity": "bfloat16"}
"""Number types of the tiny pipelines, where it isn't float32."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny pipelines are."""
    return tmp_path_factory.mktemp("pipelines")


def make(name: str, folders: Path) -> ImageModel:
    """A fresh engine."""
    if name == "echo":
        settings = EchoSettings(width=SIDE, height=SIDE)
        loader, source = EchoLoader(settings), folders
    else:
        loader, source = DiffusersLoader(SETTINGS), folders / name
        if not source.is_dir():
            save(name, folders)
    spec = ImageModelSpec("model", "1", source, DTYPES.get(name, "auto"))
    return asyncio.run(loader.load(spec, lambda _share: None))


@pytest.fixture(scope="session")
def models(folders: Path) -> Iterator[dict[str, ImageModel]]:
    """The engines that were made, by name."""
    found: dict[str, ImageModel] = {}
    yield found
    for model in found.values():
        asyncio.run(model.close())


@pytest.fixture(params=["echo", *PIPELINES])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str, folders: Path, models: dict[str, ImageModel]) -> ImageModel:
    """An engine that all tests share."""
    if name not in models:
        models[name] = make(name, folders)
    return models[name]

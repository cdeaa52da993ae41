from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.errors import FailedPrecondition, Unavailable
from services.inference.catalogue import LoadKey, WantedModel
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.echo_text import EchoText
from services.inference.loading import Loading, resolve_source
from services.inference.registry import ModelKind, ModelSettings
from tests.unit.inference.scripted_engine import ScriptedEngine


class Recorder:
    """An engine loader that notes what it was to load."""

    def __init__(self) -> None:
        self.specs: list[ModelSpec] = []

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> LoadedModel:
        self.specs.append(spec)
        return LoadedModel(ScriptedEngine(), EchoText())


def wanted(source: str, engine: str = "", **more: Any) -> WantedModel:
    key = LoadKey("u", "models/m/revisions/1", source, 512, "bfloat16", engine)
    return WantedModel("m", ModelKind.CHAT, key, **more)


async def test_the_default_engine_loads_what_names_no_other(tmp_path: Path) -> None:
    one, other = Recorder(), Recorder()
    loading = Loading({"one": lambda: one, "other": lambda: other}, "one")
    settings = ModelSettings(max_batch_size=3)
    await loading.load(wanted(str(tmp_path), settings=settings), lambda _: None)
    await loading.load(wanted(str(tmp_path), "other"), lambda _: None)
    assert one.specs == [ModelSpec("m", "models/m/revisions/1", tmp_path, 512, "bfloat16", 3)]
    assert len(other.specs) == 1


async def test_an_engine_that_is_not_here_is_named() -> None:
    loading = Loading({"one": Recorder}, "one")
    with pytest.raises(FailedPrecondition, match="'x' here; there is one"):
        await loading.load(wanted("/", "x"), lambda _: None)


@pytest.mark.parametrize("source", ["/no/such/folder", "no-such-folder", "a/b/c", "../../x"])
async def test_what_is_no_folder_and_no_hub_id_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FailedPrecondition, match="does not exist"):
        await resolve_source(source)


async def test_without_the_hub_the_error_says_what_to_do() -> None:
    with pytest.raises(Unavailable, match="Copy the model to a folder"):
        await resolve_source("penstock-tests/no-such-model")


async def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert await resolve_source(str(tmp_path)) == tmp_path


ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@pytest.mark.parametrize("engine", ["one", "echo"])
@pytest.mark.parametrize(
    ("base", "files", "adapter"),
    [
        ("m", ADAPTER, True),
        ("m", ADAPTER[:1], True),  # broken, but nothing else
        ("", ADAPTER, False),
        ("m", (*ADAPTER, "model.safetensors"), False),
        ("m", (*ADAPTER, "model.safetensors.index.json"), False),
        ("m", ("config.json", "model.safetensors"), False),
        ("m", (), False),
    ],
)
async def test_an_adapter_is_told_by_its_folder(
    engine: str, base: str, files: tuple[str, ...], adapter: bool, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    loading = Loading({"one": Recorder, "echo": Recorder}, engine)
    key = LoadKey("u", "models/a/revisions/1", str(tmp_path), base=base)
    found = await loading.adapter(WantedModel("a", ModelKind.CHAT, key))
    assert found == (tmp_path if adapter else None)


async def test_an_adapter_whose_folder_is_gone_is_an_error_but_for_echoes() -> None:
    key = LoadKey("u", "models/a/revisions/1", "/no/such/folder", base="m")
    model = WantedModel("a", ModelKind.CHAT, key)
    with pytest.raises(FailedPrecondition, match="does not exist"):
        await Loading({"one": Recorder}, "one").adapter(model)
    assert await Loading({"echo": Recorder}, "echo").adapter(model) is None

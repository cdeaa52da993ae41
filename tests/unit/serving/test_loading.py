from pathlib import Path
from typing import Any

import pytest

from services.errors import FailedPrecondition, Unavailable
from services.serving.catalogue import LoadKey, WantedModel
from services.serving.loading import Loading, Progress, resolve_source
from services.serving.models import ModelKind, Served
from tests.unit.serving.world import Machine


def wanted(source: str, engine: str = "") -> WantedModel:
    key = LoadKey("u", "models/m/revisions/1", source, engine=engine)
    return WantedModel("m", ModelKind.CHAT, key)


class Loads:
    """Engines that are names, and what each was to load."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.loaded: list[tuple[str, Path]] = []

    def loading(self, *names: str) -> Loading[str, Served[Any]]:
        return Loading({name: lambda name=name: self._make(name) for name in names}, names[0], self)

    def _make(self, name: str) -> str:
        self.made.append(name)
        return name

    async def __call__(
        self, engine: str, wanted: WantedModel, source: Path, progress: Progress
    ) -> Served[Any]:
        self.loaded.append((engine, source))
        return Served(wanted.id, wanted.kind, wanted.load.revision, Machine())


async def test_the_default_engine_loads_what_names_no_other(tmp_path: Path) -> None:
    loads = Loads()
    loading = loads.loading("one", "other")
    for engine in ("", "other", "one"):
        served = await loading.load(wanted(str(tmp_path), engine), lambda _: None)
        assert served.revision == "models/m/revisions/1"
    assert loads.loaded == [("one", tmp_path), ("other", tmp_path), ("one", tmp_path)]
    assert loads.made == ["one", "other"]  # each once, when it is needed


async def test_an_engine_that_is_not_here_is_named() -> None:
    with pytest.raises(FailedPrecondition, match="'x' here; there is one"):
        await Loads().loading("one").load(wanted("/", "x"), lambda _: None)


async def test_engines_that_look_at_no_folder_get_the_source_as_it_is(tmp_path: Path) -> None:
    loads = Loads()
    loading = Loading(
        {"there": lambda: "there", "here": lambda: "here"}, "here", loads, folderless=("there",)
    )
    await loading.load(wanted("triton", "there"), lambda _: None)
    assert loads.loaded == [("there", Path("triton"))]
    with pytest.raises(FailedPrecondition):
        await loading.load(wanted("triton"), lambda _: None)


async def test_echo_needs_no_model() -> None:
    loads = Loads()
    await loads.loading("echo").load(wanted("/no/such/folder"), lambda _: None)
    assert loads.loaded == [("echo", Path("/no/such/folder"))]


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

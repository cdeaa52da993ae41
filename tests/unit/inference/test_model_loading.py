from collections.abc import Callable
from pathlib import Path

from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.echo_text import EchoText
from services.inference.loading import load
from services.serving.catalogue import LoadKey, WantedModel
from services.serving.models import ModelKind, ModelSettings
from tests.unit.inference.scripted_engine import ScriptedEngine


class Recorder:
    """An engine loader that notes what it was to load."""

    def __init__(self) -> None:
        self.specs: list[ModelSpec] = []
        self.loaded = LoadedModel(ScriptedEngine(), EchoText())

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> LoadedModel:
        self.specs.append(spec)
        progress(1.0)
        return self.loaded


async def test_an_engine_is_told_all_that_the_catalogue_says_of_loading() -> None:
    key = LoadKey("u", "models/m/revisions/1", "/source", 512, "bfloat16")
    settings = ModelSettings(max_batch_size=3)
    wanted = WantedModel("m", ModelKind.COMPLETION, key, settings=settings)
    recorder, shares = Recorder(), list[float]()
    served = await load(recorder, wanted, Path("/found"), shares.append)
    expected = ModelSpec("m", "models/m/revisions/1", Path("/found"), 512, "bfloat16", 3)
    assert recorder.specs == [expected]
    assert shares == [1.0]
    assert (served.id, served.kind, served.revision) == ("m", wanted.kind, key.revision)
    assert served.loaded is recorder.loaded
    assert served.settings is settings

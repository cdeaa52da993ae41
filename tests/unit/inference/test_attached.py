"""Adapters as models of their own: they follow their base wherever it goes."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.errors import FailedPrecondition, ModelNotReady, Unavailable
from services.inference.attached import Adapters
from services.inference.engine import LoadedModel
from services.inference.engines.echo_text import EchoText
from services.inference.registry import ServedModel
from services.serving.catalogue import Changed, Deleted, LoadKey, Snapshot, WantedModel
from services.serving.models import ModelKind
from tests.unit.inference.scripted_engine import ScriptedEngine
from tests.unit.serving import world as worlds
from tests.unit.serving.world import DRAINING, FAILED, LOADING, READY, wanted


class Loader(worlds.Loader):
    """Loads scripted engines."""

    def __init__(self) -> None:
        super().__init__()
        self.engines: dict[str, ScriptedEngine] = {}
        self.refusals: dict[str, Exception] = {}
        """What adapters are told, by revision of their base."""

    def make(self, wanted: WantedModel) -> ServedModel:
        revision = wanted.load.revision
        engine = self.engines[revision] = ScriptedEngine()
        engine.refusal = self.refusals.get(revision)
        loaded = LoadedModel(engine, EchoText())
        return ServedModel(wanted.id, wanted.kind, revision, loaded)


class NamedFolders(Adapters):
    """Knows adapters by their source."""

    async def folder(self, wanted: WantedModel) -> Path | None:
        await asyncio.sleep(0)
        return Path(wanted.load.source) if "adapter" in wanted.load.source else None


class World(worlds.World):
    """A world with adapters."""

    loader: Loader

    def __init__(self) -> None:
        super().__init__(Loader(), NamedFolders("torch"))


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    async with worlds.running(world):
        yield world


def adapter(id: str = "a", revision: int = 1, base: str = "m", **key: Any) -> WantedModel:
    plain = wanted(id, revision)
    return replace(plain, load=replace(plain.load, source="/adapter", base=base, **key))


def engine(world: World, revision: int = 1, id: str = "m") -> ScriptedEngine:
    return world.loader.engines[f"models/{id}/revisions/{revision}"]


def message(world: World, id: str = "a") -> str:
    found = world.deployments.observations()
    return next(one.message for one in found if one.revision.startswith(f"models/{id}/"))


async def test_an_adapter_waits_for_its_base_and_serves_on_it() -> None:
    async with running() as world:
        gate = world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        world.catalogue.say(Snapshot(1, [adapter(), wanted()]))
        await world.until_states(a_1=LOADING, m_1=LOADING)
        await world.until(lambda: message(world) == "It waits for its base model 'm'.")
        with pytest.raises(ModelNotReady, match="loading"):
            world.registry.resolve("a")
        gate.set()
        await world.until_states(a_1=READY, m_1=READY)
        assert world.loader.loads == ["models/m/revisions/1"]  # no second copy of the weights
        assert engine(world).calls == ["attach a"]
        base, served = (world.registry.resolve(id) for id in "ma")
        assert served.loaded.text is base.loaded.text
        assert world.health == {"models/m": True, "models/a": True}


async def test_whole_weights_with_a_base_are_loaded() -> None:
    async with running() as world:
        plain = wanted("whole")
        whole = replace(plain, load=replace(plain.load, base="never deployed"))
        world.catalogue.say(Snapshot(1, [whole]))
        await world.until_states(whole_1=READY)


async def test_a_new_revision_of_the_base_takes_its_adapters_along() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        old = world.registry.resolve("a")
        old.acquire()
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until(lambda: world.registry.resolve("a") is not old)
        assert engine(world, 2).calls == ["attach a"]
        await world.until_states(m_2=READY, a_1=READY, m_1=DRAINING)
        assert "attached" in message(world, "m") or "close" not in engine(world).calls
        assert "close" not in engine(world).attached[0].calls  # its request still runs
        old.release()
        await world.until_states(m_2=READY, a_1=READY)
        assert "close" in engine(world).attached[0].calls
        assert "close" in engine(world).calls
        assert "close" not in engine(world, 2).attached[0].calls


async def test_a_new_revision_of_an_adapter_takes_over_on_the_same_base() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        world.registry.resolve("a").acquire()
        world.catalogue.say(Changed(2, adapter(revision=2)))
        await world.until_states(m_1=READY, a_1=DRAINING, a_2=READY)
        await world.until_states(m_1=READY, a_2=READY)  # after the grace
        assert [one.calls for one in engine(world).attached] == [["close"], []]


async def test_a_deleted_adapter_is_dropped_when_its_requests_have_ended() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        served = world.registry.resolve("a")
        served.acquire()
        world.catalogue.say(Deleted(2, "a"))
        await world.until_states(m_1=READY, a_1=DRAINING)
        assert engine(world).attached[0].calls == []
        served.release()
        await world.until_states(m_1=READY)
        assert engine(world).attached[0].calls == ["close"]
        assert "close" not in engine(world).calls
        assert world.registry.resolve("m").adapters == 0


async def test_without_its_base_an_adapter_fails_and_comes_back_with_it() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [adapter()]))
        await world.until_states(a_1=FAILED)
        assert "'m' is not among the models" in message(world)
        world.catalogue.say(Changed(2, wanted()))
        await world.until_states(m_1=READY, a_1=READY)
        served = world.registry.resolve("a")
        served.acquire()
        world.catalogue.say(Deleted(3, "m"))
        await world.until_states(m_1=DRAINING, a_1=FAILED)
        with pytest.raises(ModelNotReady, match="failed"):
            world.registry.resolve("a")
        assert engine(world).calls == ["attach a"]  # open for the request that runs
        served.release()
        await world.until_states(a_1=FAILED)
        assert "close" in engine(world).calls
        world.catalogue.say(Changed(4, wanted(revision=2)))
        await world.until_states(m_2=READY, a_1=READY)


async def test_an_adapter_tells_why_its_base_failed() -> None:
    async with running() as world:
        world.loader.failures["models/m/revisions/1"] = FailedPrecondition("No weights.")
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=FAILED, a_1=FAILED)
        assert message(world) == "Its base model 'm' failed to load: No weights."
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_2=READY, a_1=READY)


async def test_an_adapter_stays_on_what_serves_while_a_new_base_fails() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        served = world.registry.resolve("a")
        world.loader.failures["models/m/revisions/2"] = FailedPrecondition("No weights.")
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_1=READY, m_2=FAILED, a_1=READY)
        assert world.registry.resolve("a") is served


async def test_an_adapter_that_does_not_fit_the_new_base_lets_the_old_one_go() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        world.loader.refusals["models/m/revisions/2"] = FailedPrecondition("Other shapes.")
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_2=READY, a_1=FAILED)
        assert message(world) == "Other shapes."
        assert "close" in engine(world).calls


async def test_what_was_refused_is_tried_again_when_another_adapter_leaves() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=READY, a_1=READY)
        engine(world).refusal = FailedPrecondition("No more than one.")
        world.catalogue.say(Changed(2, adapter("b")))
        await world.until_states(m_1=READY, a_1=READY, b_1=FAILED)
        assert engine(world).calls.count("attach b") == 1
        engine(world).refusal = None
        world.catalogue.say(Deleted(3, "a"))
        await world.until_states(m_1=READY, b_1=READY)


async def test_what_may_pass_is_tried_again() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        engine(world).refusal = Unavailable("away")
        world.catalogue.say(Changed(2, adapter()))
        await world.until(lambda: engine(world).calls.count("attach a") >= 3)
        engine(world).refusal = None
        await world.until_states(m_1=READY, a_1=READY)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ({"context_length": 9}, "context_length"),
        ({"dtype": "float16"}, "quantization"),
        ({"engine": "torch"}, "engine"),
    ],
)
async def test_what_only_a_base_can_have_is_refused(key: dict[str, Any], name: str) -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted(), adapter(**key)]))
        await world.until_states(m_1=READY, a_1=FAILED)
        assert f"its base's {name}:" in message(world)


async def test_a_load_that_waits_for_its_base_ends_with_its_model() -> None:
    async with running() as world:
        world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        world.catalogue.say(Snapshot(1, [wanted(), adapter()]))
        await world.until_states(m_1=LOADING, a_1=LOADING)
        world.catalogue.say(Deleted(2, "a"))
        await world.until_states(m_1=LOADING)


def leaves(engines: Sequence[ScriptedEngine]) -> list[ScriptedEngine]:
    return [one for one in engines if "close" not in one.calls]


@pytest.mark.parametrize("seed", range(8))
async def test_random_histories_end_where_the_last_word_says(seed: int) -> None:
    choose = random.Random(seed)
    async with running() as world:
        for sequence in range(1, 40):
            id = choose.choice("mnabc")
            base = choose.choice("mn")
            model = wanted(id, sequence) if id in "mn" else adapter(id, sequence, base)
            gone = choose.random() < 0.3
            world.catalogue.say(Deleted(sequence, id) if gone else Changed(sequence, model))
            for _ in range(choose.randrange(6)):
                await asyncio.sleep(0)
        last = [wanted("m", 97), adapter("a", 98), adapter("b", 99, "n"), adapter("c", 96)]
        world.catalogue.say(Snapshot(50, last))
        await world.until_states(m_97=READY, a_98=READY, b_99=FAILED, c_96=READY)
        bases = list(world.loader.engines.values())
        assert leaves(bases) == [engine(world, 97)]
        assert len(leaves([one for base in bases for one in base.attached])) == 2
        assert world.registry.resolve("m").adapters == 2
    assert not leaves(bases)
    assert not leaves([one for base in bases for one in base.attached])


ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@pytest.mark.parametrize("engine", ["one", "echo"])
@pytest.mark.parametrize(
    ("base", "files", "expected"),
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
    engine: str, base: str, files: tuple[str, ...], expected: bool, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    key = LoadKey("u", "models/a/revisions/1", str(tmp_path), base=base)
    found = await Adapters(engine).folder(WantedModel("a", ModelKind.CHAT, key))
    assert found == (tmp_path if expected else None)


async def test_an_adapter_whose_folder_is_gone_is_an_error_but_for_echoes() -> None:
    key = LoadKey("u", "models/a/revisions/1", "/no/such/folder", base="m")
    model = WantedModel("a", ModelKind.CHAT, key)
    with pytest.raises(FailedPrecondition, match="does not exist"):
        await Adapters("one").folder(model)
    assert await Adapters("echo").folder(model) is None

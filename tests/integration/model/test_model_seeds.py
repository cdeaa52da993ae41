"""Models of the configuration file, over restarts."""

import logging
from dataclasses import replace

import pytest

from services.errors import FailedPrecondition, InvalidArgument, ModelNotFound
from services.model.catalog import Catalog
from services.model.records import DeployRequest, ModelKind, ModelState
from services.model.seeds import Seed, plant

CHAT, EMBEDDING = ModelKind.CHAT, ModelKind.EMBEDDING
A = Seed("a", "/a", CHAT, default_temperature=0.7, aliases=("default",))
B = Seed("b", "/b", EMBEDDING, dimensions=64)


@pytest.fixture
def catalog(store) -> Catalog:
    return Catalog(store)


async def sequence(catalog: Catalog) -> int:
    async with catalog.store.reading() as tx:
        return await tx.sequence()


async def ids(catalog: Catalog) -> list[str]:
    return [model.id for model in (await catalog.list()).items]


async def test_seeds_appear_and_a_restart_changes_nothing(catalog):
    await plant(catalog, [A, B])
    a, b = (await catalog.list()).items
    assert (a.id, a.entry.revision.source, a.entry.aliases) == ("a", "/a", ("default",))
    assert a.state is ModelState.DEPLOYING
    assert not a.entry.deployed_by_api
    assert a.entry.config.default_temperature == 0.7
    assert b.entry.revision.load_options.dimensions == 64
    before = await sequence(catalog)
    await plant(catalog, [A, B])
    assert await sequence(catalog) == before
    assert (await catalog.list()).items == [a, b]


async def test_a_changed_entry_makes_a_revision_only_where_weights_or_loading_changed(catalog):
    await plant(catalog, [A])
    await plant(catalog, [replace(A, default_temperature=0.1, aliases=())])
    model = await catalog.get("a")
    assert (model.entry.revision.number, model.entry.aliases) == (1, ())
    assert model.entry.config.default_temperature == 0.1
    uid = model.entry.uid
    await plant(catalog, [replace(A, source="/other")])
    await plant(catalog, [replace(A, source="/other", context_length=64)])
    model = await catalog.get("default")
    assert (model.entry.revision.number, model.entry.uid) == (3, uid)
    assert [r.source for r in (await catalog.revisions("a")).items] == ["/other", "/other", "/a"]


async def test_what_calls_changed_stays_while_the_file_stays(catalog):
    await plant(catalog, [A])
    await catalog.update_config("a", {"default_temperature": 0.2, "stop": ("x",)})
    await catalog.set_aliases("a", ["mine"])
    await plant(catalog, [A])
    model = await catalog.get("mine")
    assert model.entry.config.default_temperature == 0.2
    await plant(catalog, [replace(A, default_temperature=0.9)])
    model = await catalog.get("default")
    assert (model.entry.config.default_temperature, model.entry.config.stop) == (0.9, ("x",))


async def test_an_image_models_settings_follow_the_file(catalog):
    drawing = Seed("d", "/d", ModelKind.IMAGE, default_steps=4, default_cfg_scale=1.5)
    await plant(catalog, [drawing])
    await catalog.update_config("d", {"default_steps": 8})
    await plant(catalog, [replace(drawing, default_cfg_scale=0.0)])
    config = (await catalog.get("d")).entry.config
    assert (config.default_steps, config.default_cfg_scale) == (8, 0.0)
    await plant(catalog, [replace(drawing, default_steps=None, default_cfg_scale=None)])
    config = (await catalog.get("d")).entry.config
    assert (config.default_steps, config.default_cfg_scale) == (None, None)


async def test_removed_entries_are_stopped_and_come_back(catalog):
    await plant(catalog, [A, B])
    with pytest.raises(FailedPrecondition):
        await catalog.delete("a")
    await plant(catalog, [B])
    model = await catalog.get("a")
    assert (model.state, model.entry.aliases) == (ModelState.STOPPED, ())
    with pytest.raises(ModelNotFound):
        await catalog.get("default")
    await plant(catalog, [A, B])
    model = await catalog.get("default")
    assert (model.state, model.entry.revision.number) == (ModelState.DEPLOYING, 1)
    await plant(catalog, [])
    await catalog.delete("a")
    assert await ids(catalog) == ["b"]


async def test_a_stopped_model_can_be_deployed_by_a_call(catalog):
    await plant(catalog, [A])
    await plant(catalog, [])
    await catalog.deploy(DeployRequest("a", "/x", CHAT, allow_update=True))
    model = await catalog.get("a")
    assert (model.state, model.entry.deployed_by_api) == (ModelState.DEPLOYING, True)
    await plant(catalog, [])
    assert (await catalog.get("a")).state is ModelState.DEPLOYING


async def test_the_file_wins_over_calls_and_says_so(catalog, caplog):
    await catalog.deploy(DeployRequest("a", "/api", CHAT, aliases=("kept", "b")))
    await catalog.deploy(DeployRequest("c", "/c", CHAT, aliases=("default",)))
    with caplog.at_level(logging.ERROR):
        await plant(catalog, [A, B])
    assert {r.levelname for r in caplog.records} == {"ERROR"}
    assert "model a was deployed by a call" in caplog.text
    assert "default is no longer an alias of model c" in caplog.text
    a = await catalog.get("default")
    assert (a.id, a.entry.revision.source, a.entry.deployed_by_api) == ("a", "/a", False)
    assert (await catalog.get("b")).id == "b"
    assert (await catalog.get("c")).entry.aliases == ()


async def test_an_alias_that_is_anothers_id_is_tried_again(catalog, caplog):
    await catalog.deploy(DeployRequest("default", "/x", CHAT))
    await plant(catalog, [A])
    assert "default is no longer an alias of model a" in caplog.text
    assert (await catalog.get("default")).id == "default"
    await catalog.delete("default")
    await plant(catalog, [A])
    assert (await catalog.get("default")).id == "a"


async def test_another_kind_is_another_model(catalog):
    await plant(catalog, [A])
    before = await catalog.get("a")
    await plant(catalog, [replace(A, kind=EMBEDDING, default_temperature=None)])
    after = await catalog.get("a")
    assert after.entry.kind is EMBEDDING
    assert after.entry.uid != before.entry.uid
    assert after.entry.revision.number == 2
    assert len((await catalog.revisions("a")).items) == 1


async def test_names_move_between_entries(catalog):
    c = Seed("c", "/c", CHAT, aliases=("x",))
    d = Seed("d", "/d", CHAT, aliases=("y",))
    await plant(catalog, [c, d])
    await plant(catalog, [replace(c, aliases=("y",)), replace(d, aliases=("x",))])
    assert ((await catalog.get("x")).id, (await catalog.get("y")).id) == ("d", "c")
    # Renamed, and the old ID kept as an alias.
    await plant(catalog, [Seed("x", "/c", CHAT, aliases=("c",))])
    assert (await catalog.get("c")).id == "x"
    assert await ids(catalog) == ["d", "x"]


@pytest.mark.parametrize(
    "seeds",
    [
        [replace(A, id="deploy")],
        [replace(A, aliases=("a",))],
        [replace(A, default_temperature=3.0)],
        [replace(A, default_steps=0)],
        [replace(A, default_cfg_scale=101.0)],
        [replace(A, context_length=-1)],
        [A, replace(B, aliases=("default",))],
        [A, replace(B, aliases=("a",))],
    ],
)
async def test_entries_that_make_no_sense_change_nothing(catalog, seeds):
    with pytest.raises(InvalidArgument):
        await plant(catalog, seeds)
    assert await ids(catalog) == []

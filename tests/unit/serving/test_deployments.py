import asyncio
from collections import defaultdict
from dataclasses import replace

import pytest

from services.errors import (
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    ModelNotReady,
    Unavailable,
)
from services.serving.catalogue import Changed, Deleted, Heartbeat, Snapshot
from services.serving.models import ModelKind, ModelSettings
from tests.unit.serving.world import (
    DRAINING,
    FAILED,
    LOADING,
    READY,
    RemoteMachine,
    running,
    wanted,
)


async def test_a_wanted_model_loads_and_serves() -> None:
    async with running() as world:
        with pytest.raises(Unavailable):
            world.registry.resolve("m")
        gate = world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        world.catalogue.say(Snapshot(1, [wanted(aliases=("org/alias",))]))
        await world.until_states(m_1=LOADING)
        assert world.health == {"models/m": False}
        with pytest.raises(ModelNotReady, match="loading"):
            world.registry.resolve("org/alias")
        with pytest.raises(ModelNotFound, match="The model `x` does not exist or you do not have"):
            world.registry.resolve("x")
        gate.set()
        await world.until_states(m_1=READY)
        assert world.health == {"models/m": True}
        for name in ("m", "models/m", "org/alias", "models/org/alias"):
            assert world.serving(name) == "models/m/revisions/1"
        await world.until(lambda: world.catalogue.reports[-1][0].state is READY)
        assert world.catalogue.reports[-1][0].served is world.registry.resolve("m")


async def test_a_new_revision_takes_over_while_the_old_one_drains() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        old = world.registry.resolve("m")
        old.acquire()
        gate = world.loader.gates["models/m/revisions/2"] = asyncio.Event()
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_1=READY, m_2=LOADING)
        assert world.serving() == "models/m/revisions/1"
        gate.set()
        await world.until_states(m_2=READY, m_1=DRAINING)
        assert world.serving() == "models/m/revisions/2"
        assert "close" not in world.loader.machines["models/m/revisions/1"].calls
        old.release()
        await world.until_states(m_2=READY)
        assert "close" in world.loader.machines["models/m/revisions/1"].calls


async def test_what_is_lost_where_it_ran_is_not_ready_until_it_is_loaded_anew() -> None:
    async with running() as world:
        world.loader.machine = RemoteMachine
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        lost = world.loader.machines["models/m/revisions/1"]
        assert isinstance(lost, RemoteMachine)
        gate = world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        lost.loss.set_result(Unavailable("The server is gone."))
        await world.until(lambda: world.health == {"models/m": False})
        with pytest.raises(ModelNotReady):
            world.registry.resolve("m")
        await world.until(lambda: "close" in lost.calls)
        gate.set()
        await world.until(lambda: world.health == {"models/m": True})
        assert world.registry.resolve("m").loaded is not lost


async def test_a_drain_has_an_end() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        world.registry.resolve("m").acquire()
        world.catalogue.say(Deleted(2, "m"))
        await world.until_states(m_1=DRAINING)
        with pytest.raises(ModelNotFound):
            world.registry.resolve("m")
        await world.until_states()
        assert world.health == {"models/m": None}
        assert "close" in world.loader.machines["models/m/revisions/1"].calls


@pytest.mark.parametrize("how", ["load", "probe"])
async def test_a_failed_revision_leaves_the_old_one_serving(how: str) -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        failures = world.loader.failures if how == "load" else world.loader.probes
        failures["models/m/revisions/2"] = FailedPrecondition("The folder has no weights.")
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_1=READY, m_2=FAILED)
        assert world.serving() == "models/m/revisions/1"
        (failed,) = [o for o in world.deployments.observations() if o.state is FAILED]
        assert failed.message == "The folder has no weights."
        await asyncio.sleep(0.1)
        assert world.loader.loads.count("models/m/revisions/2") == 1
        if how == "probe":
            assert "close" in world.loader.machines["models/m/revisions/2"].calls
        world.catalogue.say(Changed(3, wanted(revision=3)))
        await world.until_states(m_3=READY)


async def test_what_may_pass_is_tried_again() -> None:
    async with running() as world:
        world.loader.failures["models/m/revisions/1"] = RuntimeError("secret path")
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until(lambda: len(world.loader.loads) >= 3)
        await world.until_states(m_1=FAILED)
        with pytest.raises(ModelNotReady, match="failed"):
            world.registry.resolve("m")
        assert "secret" not in world.deployments.observations()[0].message
        world.loader.failures.clear()
        await world.until_states(m_1=READY)


async def test_a_changed_specification_is_loaded_in_place_of_a_load() -> None:
    async with running() as world:
        world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=LOADING)
        world.catalogue.say(Changed(2, wanted(revision=2)))
        await world.until_states(m_2=READY)


async def test_the_same_name_made_anew_is_another_model() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        first = world.registry.resolve("m")
        anew = wanted(load=replace(wanted().load, uid="another"))
        world.catalogue.say(Deleted(2, "m"), Changed(3, anew))
        await world.until(lambda: world.registry.served().get("m") not in (None, first))
        assert world.loader.loads == ["models/m/revisions/1"] * 2


async def test_settings_and_aliases_apply_without_a_reload() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=READY)
        settings = ModelSettings(default_temperature=0.1)
        world.catalogue.say(Changed(2, wanted(aliases=("new",), settings=settings)))
        await world.until(lambda: world.registry.resolve("m").settings is settings)
        assert world.serving("new") == "models/m/revisions/1"
        assert len(world.loader.loads) == 1


async def test_settings_that_change_during_a_load_apply_too() -> None:
    async with running() as world:
        gate = world.loader.gates["models/m/revisions/1"] = asyncio.Event()
        world.catalogue.say(Snapshot(1, [wanted()]))
        await world.until_states(m_1=LOADING)
        settings = ModelSettings(system_prompt="Be brief.")
        world.catalogue.say(Changed(2, wanted(settings=settings)), Heartbeat(3))
        await world.until(world.catalogue.events.empty)
        gate.set()
        await world.until_states(m_1=READY)
        assert world.registry.resolve("m").settings is settings


async def test_models_load_one_after_the_other() -> None:
    async with running() as world:
        models = [wanted(id) for id in "abc"]
        world.catalogue.say(Snapshot(1, models))
        await world.until_states(a_1=READY, b_1=READY, c_1=READY)
        assert world.loader.most_at_once == 1
        assert world.loader.loads == [model.load.revision for model in models]


async def test_a_broken_model_leaves_the_others_serving() -> None:
    async with running() as world:
        world.loader.failures["models/a/revisions/1"] = FailedPrecondition("broken")
        world.catalogue.say(Snapshot(1, [wanted("a"), wanted("b")]))
        await world.until_states(a_1=FAILED, b_1=READY)
        assert world.health == {"models/a": False, "models/b": True}


async def test_models_of_other_services_are_known_by_name() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted("v", kind=ModelKind.EMBEDDING)]))
        await world.until(lambda: world.health == {} and world.catalogue.events.empty())
        await world.until(lambda: world.catalogue.reports)
        with pytest.raises(InvalidArgument, match="type embedding: it can't do this"):
            world.registry.resolve("v")
        assert world.loader.loads == []


async def test_what_serves_keeps_serving_while_the_catalogue_is_away() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(7, [wanted()]))
        await world.until_states(m_1=READY)
        await world.until(lambda: world.catalogue.reports)
        world.catalogue.deaf = True
        world.catalogue.say(Unavailable("away"), Unavailable("away"))
        await world.until(lambda: len(world.catalogue.watched) >= 3)
        assert world.serving() == "models/m/revisions/1"
        world.catalogue.deaf = False
        count = len(world.catalogue.reports)
        world.catalogue.say(Snapshot(1, [wanted(revision=2)]))
        await world.until_states(m_2=READY)
        await world.until(lambda: len(world.catalogue.reports) > count)
        # Whoever answers after a failure may have another past.
        assert set(world.catalogue.watched) == {0}


async def test_a_stream_that_ended_in_peace_is_resumed() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(7, []), None)
        await world.until(lambda: world.catalogue.watched == [0, 7])


async def test_silence_ends_a_watch() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(7, []))
        await world.until(lambda: len(world.catalogue.watched) == 2)


async def test_reports_come_when_they_are_due() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(7, []))
        await world.until(lambda: len(world.catalogue.reports) >= 3)


async def test_without_an_attacher_a_model_with_a_base_is_loaded_whole() -> None:
    async with running() as world:
        tuned = wanted("tuned", load=replace(wanted("tuned").load, base="never deployed"))
        world.catalogue.say(Snapshot(1, [tuned]))
        await world.until_states(tuned_1=READY)


async def test_stopping_frees_every_model() -> None:
    async with running() as world:
        world.catalogue.say(Snapshot(1, [wanted("a"), wanted("b")]))
        await world.until_states(a_1=READY, b_1=READY)
    assert all("close" in machine.calls for machine in world.loader.machines.values())
    assert not world.registry.served()


async def test_random_histories_end_where_the_last_word_says() -> None:
    """Whatever came before, the last snapshot decides."""
    history: dict[str, list[int]] = defaultdict(list)
    async with running() as world:
        for sequence in range(1, 30):
            id = "abc"[sequence % 3]
            history[id].append(sequence)
            event = (
                Deleted(sequence, id)
                if sequence % 4 == 0
                else Changed(sequence, wanted(id, sequence))
            )
            world.catalogue.say(event)
            if sequence % 5 == 0:
                await asyncio.sleep(0)
        world.catalogue.say(Snapshot(40, [wanted("a", 99), wanted("c", 98)]))
        await world.until_states(a_99=READY, c_98=READY)
        left = [one for one in world.loader.machines.values() if "close" not in one.calls]
        assert len(left) == 2

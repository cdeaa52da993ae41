"""WatchModels: snapshot, changes, resuming, slow readers, several processes, drain."""

import asyncio
import contextlib
import time

import grpc
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from services.model.catalog import Catalog
from services.model.records import DeployRequest, ModelKind
from services.model.watches import Changed, ChangeFeed, Deleted, Snapshot, Watches

CHAT, EMBEDDING = pb.MODEL_KIND_CHAT, pb.MODEL_KIND_EMBEDDING


def deployment(weights: str, model_id: str, **values) -> service_pb.DeployModelRequest:
    return service_pb.DeployModelRequest(
        **({"model_id": model_id, "source": weights, "kind": CHAT} | values)
    )


def delete(model_id: str) -> service_pb.DeleteModelRequest:
    return service_pb.DeleteModelRequest(name=f"models/{model_id}")


class Watch:
    """An open watch."""

    def __init__(self, stub, **values) -> None:
        self._call = stub.WatchModels(service_pb.WatchModelsRequest(**values))

    async def next(self) -> service_pb.WatchModelsEvent:
        event = await asyncio.wait_for(self._call.read(), 10)
        assert event is not grpc.aio.EOF
        return event

    async def changed(self) -> pb.Model:
        event = await self.next()
        assert event.WhichOneof("event") == "changed"
        return event.changed

    async def silent(self, seconds: float = 0.4) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(self.next())), seconds)

    async def __aenter__(self) -> "Watch":
        return self

    async def __aexit__(self, *_) -> None:
        self._call.cancel()


def report(state, revision: str):
    seen = pb.Observation(reporter="r", revision=revision, state=state)
    return service_pb.ReportModelStateRequest(
        reporter="r", service="inference", observations=[seen]
    )


async def test_a_snapshot_then_changes(service, weights):
    admin, process = service.stub("admin"), service.stub("service")
    async with Watch(process) as watch:
        event = await watch.next()
        assert event.WhichOneof("event") == "snapshot"
        assert not event.snapshot.models
        assert event.sequence > 0
        deployed = await admin.DeployModel(deployment(weights, "a"))
        event = await watch.next()
        assert event.changed == deployed
        await process.ReportModelState(report(pb.Observation.STATE_READY, "models/a/revisions/1"))
        assert (await watch.changed()).state == pb.Model.STATE_READY
        # The same again is no change.
        await process.ReportModelState(report(pb.Observation.STATE_READY, "models/a/revisions/1"))
        await admin.UpdateModelConfig(
            service_pb.UpdateModelConfigRequest(config=pb.ModelConfig(name="models/a", stop=["x"]))
        )
        assert list((await watch.changed()).config.stop) == ["x"]
        await admin.DeleteModel(delete("a"))
        last = await watch.next()
        assert (last.deleted, last.sequence) == ("models/a", event.sequence + 3)


async def test_kinds(service, weights):
    admin = service.stub("admin")
    await admin.DeployModel(deployment(weights, "a"))
    await admin.DeployModel(deployment(weights, "b", kind=EMBEDDING))
    async with Watch(admin, kinds=[EMBEDDING]) as watch:
        [model] = (await watch.next()).snapshot.models
        assert model.name == "models/b"
        await admin.DeleteModel(delete("a"))
        await admin.DeployModel(deployment(weights, "c"))
        await admin.DeleteModel(delete("b"))
        assert (await watch.next()).deleted == "models/b"


async def test_resuming(service, weights):
    admin = service.stub("admin")
    await admin.DeployModel(deployment(weights, "a"))
    async with Watch(admin) as watch:
        sequence = (await watch.next()).sequence
    await admin.DeployModel(deployment(weights, "b"))
    await admin.DeployModel(deployment(weights, "b", allow_update=True))
    await admin.DeleteModel(delete("a"))
    async with Watch(admin, resume_sequence=sequence) as watch:
        changed = await watch.next()
        assert changed.changed.revision.name == "models/b/revisions/2", "told once, as it is"
        deleted = await watch.next()
        assert (deleted.deleted, deleted.sequence) == ("models/a", sequence + 3)
    # Up to date: nothing to say until something happens.
    async with Watch(admin, resume_sequence=deleted.sequence) as watch:
        await admin.DeleteModel(delete("b"))
        assert (await watch.next()).deleted == "models/b"
    for unknown in (1, 2**62):
        async with Watch(admin, resume_sequence=unknown) as watch:
            assert (await watch.next()).WhichOneof("event") == "snapshot"


async def test_resuming_over_a_restart(start_service, database_url, weights):
    async with start_service(database_url) as service:
        admin = service.stub("admin")
        await admin.DeployModel(deployment(weights, "a"))
        async with Watch(admin) as watch:
            sequence = (await watch.next()).sequence
        await admin.DeployModel(deployment(weights, "b"))
    async with (
        start_service(database_url) as service,
        Watch(service.stub("admin"), resume_sequence=sequence) as watch,
    ):
        assert (await watch.changed()).name == "models/b"


async def test_resuming_where_the_log_was_compacted(service, weights):
    admin = service.stub("admin")
    async with Watch(admin) as watch:
        sequence = (await watch.next()).sequence
    for model_id in "abcd":
        await admin.DeployModel(deployment(weights, model_id))
    async with service.catalog.store.writing() as tx:
        await tx.compact(keep_changes=2, receipts_before=service.catalog.clock())
    async with Watch(admin, resume_sequence=sequence) as watch:
        assert len((await watch.next()).snapshot.models) == 4
    async with Watch(admin, resume_sequence=sequence + 2) as watch:
        assert (await watch.changed()).name == "models/c"


async def test_heartbeats(start_service, database_url, weights):
    async with start_service(database_url, heartbeat_s=0.3) as service:  # noqa: SIM117
        async with Watch(service.stub("user"), kinds=[EMBEDDING]) as watch:
            snapshot = await watch.next()
            event = await watch.next()
            assert event.WhichOneof("event") == "heartbeat"
            assert event.sequence == snapshot.sequence
            assert event.heartbeat.ToMicroseconds() == 300_000
            # Changes of other kinds are none to this watcher, but they move it on.
            await service.stub("admin").DeployModel(deployment(weights, "a"))
            event = await watch.next()
            assert event.WhichOneof("event") == "heartbeat"
            assert event.sequence == snapshot.sequence + 1


async def test_silence_of_a_process_is_told(service, weights, clock):
    from datetime import timedelta

    admin, process = service.stub("admin"), service.stub("service")
    await admin.DeployModel(deployment(weights, "a"))
    await process.ReportModelState(report(pb.Observation.STATE_READY, "models/a/revisions/1"))
    async with Watch(process) as watch:
        [model] = (await watch.next()).snapshot.models
        assert model.state == pb.Model.STATE_READY
        clock.ahead = timedelta(seconds=16)
        assert (await watch.changed()).state == pb.Model.STATE_DEPLOYING


async def test_other_processes_changes_come_soon(start_service, database_url, weights):
    async with start_service(database_url) as one, start_service(database_url) as two:  # noqa: SIM117
        async with Watch(one.stub("user")) as watch:
            await watch.next()
            began = time.monotonic()
            await two.stub("admin").DeployModel(deployment(weights, "a"))
            assert (await watch.changed()).name == "models/a"
            assert time.monotonic() - began < 10


async def test_writers_of_several_processes_lose_nothing(start_service, database_url, weights):
    async with start_service(database_url) as one, start_service(database_url) as two:
        stubs = [one.stub("admin"), two.stub("admin")]
        async with Watch(one.stub("admin")) as watch:
            sequence = (await watch.next()).sequence
            ids = [f"m{number}" for number in range(10)]
            calls = (
                stubs[number % 2].DeployModel(deployment(weights, model_id))
                for number, model_id in enumerate(ids)
            )
            await asyncio.gather(*calls)
            seen = set()
            while seen != {f"models/{model_id}" for model_id in ids}:
                event = await watch.next()
                assert event.sequence > sequence
                sequence = event.sequence
                seen.add(event.changed.name)
        page = await stubs[1].ListModels(service_pb.ListModelsRequest())
        assert len(page.models) == 10


async def test_a_slow_reader_costs_nothing_and_gets_a_snapshot(store):
    feed = ChangeFeed()
    catalog = Catalog(store, announce=feed.announce)
    watches = Watches(catalog, feed, max_lag=5)

    async def change(model_id: str, times: int) -> None:
        for _ in range(times):
            request = DeployRequest(model_id, "/w", ModelKind.CHAT, allow_update=True)
            await catalog.deploy(request)

    await change("a", 1)
    async with contextlib.aclosing(watches.watch()) as events:
        assert isinstance(await anext(events), Snapshot)
        await change("b", 3)
        await change("c", 2)
        assert [type(await anext(events)) for _ in range(2)] == [Changed, Changed]
        await change("a", 6)
        await catalog.delete("c")
        event = await anext(events)
        assert isinstance(event, Snapshot)
        assert [model.id for model in event.models] == ["a", "b"]
        await catalog.delete("b")
        assert isinstance(await anext(events), Deleted)


async def test_a_drain_ends_watches_at_once(service):
    watches = [Watch(service.stub("user")) for _ in range(10)]
    for watch in watches:
        await watch.next()
    # Some have a word on its way, and some have left, just as the drain begins.
    request = DeployRequest("a", "/w", ModelKind.CHAT)
    deploying = asyncio.create_task(service.catalog.deploy(request))
    await watches[0].__aexit__()
    await deploying
    began = time.monotonic()
    await service.server.stop(30)
    assert time.monotonic() - began < 20
    for watch in watches[1:]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # noqa: PT012
            while True:
                await watch.next()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_many_watchers(service, weights):
    watches = [Watch(service.stub("user")) for _ in range(30)]
    for watch in watches:
        await watch.next()
    await service.stub("admin").DeployModel(deployment(weights, "a"))
    for watch in watches:
        assert (await watch.changed()).name == "models/a"
        await watch.__aexit__()

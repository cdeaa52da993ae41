"""Passes of an engine: too little memory, readers who are behind, partial pictures, and the end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from services.errors import (
    FailedPrecondition,
    InvalidArgument,
    MessageTooLarge,
    QueueFull,
    SlowReader,
    Unavailable,
)
from services.image.batching import Batcher
from services.image.collecting import collect
from services.image.defaults import Options
from services.image.engine import Drawing, Drawn, ImageModel, Plan, Watch
from services.image.engines.echo_engine import EchoModel, EchoSettings
from services.image.events import Event, Finish, FinishedImage, FinishReason, PartialImage, State
from services.image.jobs import Job
from services.image.limits import Limits
from services.image.outbox import MOST_BYTES
from services.image.places import QueueLimits
from services.image.preparing import Preparer, Target
from services.image.requests import ImageRequest
from services.image.sources import Threads
from tests.unit.image.gated_model import GatedModel, until

SETTINGS = EchoSettings(width=64, height=64)


class CrampedModel(EchoModel):
    """Has memory for two drawings."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.tried: list[int] = []

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        self.tried.append(len(drawings))
        if len(drawings) > 2:
            raise FailedPrecondition("Memory ran out: ask for fewer.")
        return await super().draw(plan, drawings, watch)


class FailingModel(EchoModel):
    """Stumbles over one seed."""

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        if any(drawing.seed == 13 for drawing in drawings):
            raise RuntimeError("a bug")
        return await super().draw(plan, drawings, watch)


class World:
    """Jobs for a model."""

    def __init__(self, threads: Threads) -> None:
        self._preparer = Preparer(threads, Limits(), "Penstock 0")
        self._batchers: list[tuple[Batcher, ImageModel]] = []

    def batcher(self, model: ImageModel, budget: int = 1 << 40, **more: Any) -> Batcher:
        batcher = Batcher(model, budget=lambda: budget, **more)
        self._batchers.append((batcher, model))
        return batcher

    async def job(self, model: ImageModel, id: str = "j", **more: Any) -> Job:
        job_settings = {
            name: more.pop(name) for name in ("streams", "slow_reader_timeout_s") if name in more
        }
        request = ImageRequest(**{"prompt": "a", "steps": 2, "seed": 1} | more)
        target = Target("echo", model, "fp", lambda: 1 << 40)
        order = await self._preparer.prepare(request, Options(), target, lambda _: None)
        return Job(id, id, "echo", order, **job_settings)

    async def close(self) -> None:
        for batcher, model in self._batchers:
            await batcher.close()
            await model.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with closing(Threads()) as threads:
        world = World(threads)
        yield world
        await world.close()


async def told(job: Job) -> list[Event]:
    return [event async for event in job.events()]


def images_of(events: list[Event]) -> list[FinishedImage]:
    return [event for event in events if isinstance(event, FinishedImage)]


async def test_where_memory_runs_out_fewer_are_drawn_together(world: World) -> None:
    model = CrampedModel()
    batcher = world.batcher(model)
    job = await world.job(model, batch_size=7)
    batcher.add(job)
    assert len(images_of(await told(job))) == 7
    assert model.tried == [7, 3, 1, 2, 4, 2, 2]


async def test_memory_bounds_a_pass(world: World) -> None:
    model = GatedModel(SETTINGS)
    job = await world.job(model, batch_size=5)
    batcher = world.batcher(model, budget=model.memory_bytes(job.order.plan, 2))
    model.open()
    batcher.add(job)
    assert len(images_of(await told(job))) == 5
    assert model.passes == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("merges", "most", "want"),
    [(True, 0, [[1, 1]]), (True, 1, [[1], [1]]), (False, 0, [[1], [1]])],
)
async def test_what_is_merged(world: World, merges: bool, most: int, want: list[list[int]]) -> None:
    model = GatedModel(SETTINGS)
    model.open()
    batcher = world.batcher(model, merges=merges)
    batcher.most_images = most
    jobs = [await world.job(model, id) for id in "ab"]
    for job in jobs:
        batcher.add(job)
    first, second = [images_of(await told(job)) for job in jobs]
    assert first[0].data == second[0].data
    assert model.passes == want


async def test_what_an_image_trips_over_is_not_for_the_others(world: World) -> None:
    model = FailingModel(SETTINGS)
    batcher = world.batcher(model)
    jobs = [await world.job(model, str(seed), seed=seed) for seed in (12, 13, 14)]
    for job in jobs:
        batcher.add(job)
    assert len(images_of(await told(jobs[0]))) == 1
    with pytest.raises(RuntimeError, match="a bug"):
        await told(jobs[1])
    assert len(images_of(await told(jobs[2]))) == 1
    assert batcher.status().completed_24h == 2


async def test_an_engine_that_can_not_even_measure_fails_who_waits(world: World) -> None:
    class Confused(EchoModel):
        def memory_bytes(self, plan: Plan, count: int) -> int:
            if count > 1:
                raise RuntimeError("the device is gone")
            return 0

    model = Confused(SETTINGS)
    batcher = world.batcher(model)
    for _ in range(2):
        job = await world.job(model)
        batcher.add(job)
        with pytest.raises(RuntimeError, match="gone"):
            await told(job)
    assert batcher.status().waiting == batcher.status().running == 0


async def test_a_job_whose_reader_is_behind_waits_and_others_go_on(world: World) -> None:
    model = GatedModel(SETTINGS)
    model.open()
    batcher = world.batcher(model)
    slow = await world.job(model, "slow", batch_count=9, seed=100)
    slow._outbox._most_bytes = 0  # any unread image is too much
    other = await world.job(model, "other", batch_count=2, seed=200)
    batcher.add(slow)
    await until(lambda: slow._outbox.full and not batcher.status().job_id)
    begun = len(model.passes)
    assert begun <= 3, "a pass may be under way, and one whose files are made"
    batcher.add(other)
    assert len(images_of(await told(other))) == 2
    assert model.passes[begun:] == [[200], [201]], "its next batch is not begun"
    assert slow.state is State.RUNNING
    assert [image.seed for image in images_of(await told(slow))] == list(range(100, 109))


async def test_a_reader_who_never_comes_back(world: World) -> None:
    model = GatedModel(SETTINGS)
    batcher = world.batcher(model)
    job = await world.job(model, batch_count=3, slow_reader_timeout_s=0.01)
    batcher.add(job)
    model.step(2)  # the first image, which nobody reads
    await until(lambda: job.ended)
    with pytest.raises(SlowReader):
        await told(job)
    model.open()
    await until(lambda: not batcher.status().job_id)
    assert len(model.passes) <= 2


async def test_partial_pictures_come_in_order_before_the_image(world: World) -> None:
    model = GatedModel(SETTINGS)
    model.open()
    batcher = world.batcher(model)
    job = await world.job(model, steps=9, partial_image_count=3, batch_size=2)
    plain = await world.job(model, "plain", steps=9, partial_image_count=3, streams=False)
    batcher.add(job)
    batcher.add(plain)
    events = await told(job)
    for index in (0, 1):
        mine = [
            event.partial_index if isinstance(event, PartialImage) else "image"
            for event in events
            if isinstance(event, PartialImage | FinishedImage) and event.index == index
        ]
        assert mine == [0, 1, 2, "image"]
    assert not [event for event in await told(plain) if isinstance(event, PartialImage)]


async def test_places_and_bytes_are_bounded(world: World) -> None:
    batcher = world.batcher(EchoModel(SETTINGS), limits=QueueLimits(jobs=2, bytes=100))
    with batcher.place(500) as first:  # more than there is, but alone
        first.hold(500)
        with pytest.raises(QueueFull, match="queue_bytes"), batcher.place(1):
            pass
    with batcher.place(60) as first, batcher.place(30) as second:
        with pytest.raises(QueueFull) as caught, batcher.place(0):
            pass
        assert caught.value.retry_after_s
        with pytest.raises(QueueFull):
            second.hold(20)
        second.hold(10)
    with batcher.place(100):
        pass


async def test_a_closed_model_takes_nothing(world: World) -> None:
    model = GatedModel(SETTINGS)
    batcher = world.batcher(model)
    running, waiting = [await world.job(model, id, seed=ord(id)) for id in "rw"]
    batcher.add(running)
    await until(lambda: model.passes)
    batcher.add(waiting)
    late = await world.job(model, "late")
    closing_down = asyncio.create_task(batcher.close())
    for job in (running, waiting):
        with pytest.raises(Unavailable):
            await told(job)
    await closing_down
    with pytest.raises(Unavailable):
        batcher.add(late)
    with pytest.raises(Unavailable), batcher.place(0):
        pass


async def test_an_answer_that_is_too_large_ends_its_job(world: World) -> None:
    model = GatedModel(SETTINGS)
    model.open()
    batcher = world.batcher(model)
    job = await world.job(model, batch_count=10)

    async def events(job: Job) -> Any:
        try:
            yield job.queued()
            async for event in job.events():
                yield event
        finally:
            job.leave()

    batcher.add(job)
    with pytest.raises(MessageTooLarge, match="Stream them"):
        await collect(events(job), most_bytes=4_000)
    assert job.ended
    await until(lambda: not batcher.status().running)
    assert len(model.passes) < 10
    small = await world.job(model, "small", batch_count=2)
    batcher.add(small)
    queued, images, finish = await collect(events(small))
    assert (queued.job_id, len(images), finish.reason) == ("small", 2, FinishReason.COMPLETED)


async def test_a_finished_job_tells_what_it_took(world: World) -> None:
    model = GatedModel(SETTINGS)
    batcher = world.batcher(model)
    job = await world.job(model, batch_size=2)
    batcher.add(job)
    await until(lambda: model.passes)
    assert not job.skip() or job.state is State.RUNNING
    model.open()
    finish = (await told(job))[-1]
    assert isinstance(finish, Finish)
    assert finish.timings.decode_s > 0
    assert finish.timings.queue_s >= 0
    assert job.progress().fraction == 1
    assert not job.interrupt()
    assert not job.skip()
    job.fail(InvalidArgument("too late"))
    assert job.complete


def test_unread_images_are_bounded_by_less_than_a_message() -> None:
    assert MOST_BYTES < 64 * 1024 * 1024

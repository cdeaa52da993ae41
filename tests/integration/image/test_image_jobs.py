"""Jobs over a socket: many callers at once, whose turn it is, and all ways in which a job ends."""

import asyncio
import io
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.image.v1 import image_service_pb2 as pb
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from PIL import Image

from services.image import events
from services.image import requests as domain
from tests.integration.image.image_platform import (
    ADMIN,
    OTHER,
    SIDE,
    USER,
    USERS,
    Platform,
    details,
    events_of,
    files,
    metadata,
    platform_of,
    reaches,
    reason,
    request,
    state,
)
from tests.unit.image.gated_model import until

States = progress_pb2.Progress
INTERRUPTED = progress_pb2.IMAGE_FINISH_REASON_INTERRUPTED
COMPLETED = progress_pb2.IMAGE_FINISH_REASON_COMPLETED


def begin(platform: Platform, who: Any = USER, **more: Any) -> asyncio.Task[Any]:
    """Begins a call that is answered in one."""

    async def call() -> Any:
        return await platform.image.Generate(request(**more), metadata=who)

    return asyncio.create_task(call())


def pixels(data: bytes) -> bytes:
    """What is seen of a file: models of the same engine draw the same."""
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


async def interrupt(platform: Platform, id: str = "", who: Any = USER) -> list[str]:
    asked = pb.InterruptRequest(job_id=id)
    return list((await platform.image.Interrupt(asked, metadata=who)).job_ids)


async def skip(platform: Platform, id: str = "", who: Any = USER) -> list[str]:
    return list((await platform.image.Skip(pb.SkipRequest(job_id=id), metadata=who)).job_ids)


async def idle(platform: Platform, model: str) -> None:
    batcher = platform.registry.served()[model].loaded.batcher
    await until(lambda: not (batcher.status().running or batcher.status().waiting))


async def test_eight_callers_get_their_own(platform: Platform) -> None:
    """They wait together, are drawn together, and each gets what it would get alone."""
    prompts = [f"prompt {number}" for number in range(8)]
    alone = [
        await files(platform.image.Generate(request(prompt, seed=number), metadata=USER))
        for number, prompt in enumerate(prompts)
    ]
    model = platform.gated["batched"]
    first = begin(platform, model="batched", prompt="first", job_id="first")
    await reaches(platform, "first", States.STATE_RUNNING)
    calls = [
        platform.image.StreamGenerate(
            request(prompt, model="batched", seed=number, job_id=f"job-{number}"),
            metadata=metadata(USERS[number]),
        )
        for number, prompt in enumerate(prompts)
    ]
    streams = [asyncio.create_task(events_of(call)) for call in calls]
    for number in range(8):
        await reaches(platform, f"job-{number}", States.STATE_QUEUED)
    positions = [(await state(platform, f"job-{number}")).queue_position for number in range(8)]
    assert sorted(positions) == list(range(8))
    for step in range(1, 5):
        model.step()
        await reaches(platform, "first", States.STATE_FINISHED if step == 4 else 2, step)
    await first
    for step in range(1, 5):
        model.step()
        for number in range(8):
            await reaches(
                platform, f"job-{number}", States.STATE_FINISHED if step == 4 else 2, step
            )
    together = await asyncio.gather(*streams)
    assert [sorted(seeds) for seeds in model.passes] == [[7], list(range(8))]
    for number, told in enumerate(together):
        images = [event for kind, event in told if kind == "image"]
        assert [pixels(image.data) for image in images] == [pixels(alone[number][0])]
        shown = [event for kind, event in told if kind == "progress"]
        assert {each.job_id for each in shown} == {f"job-{number}"}
        steps = [each.step for each in shown]
        assert steps == sorted(steps)
        assert steps[-1] == 4
        assert told[-1][1].effective_request.prompt == prompts[number]


async def test_only_equal_plans_are_drawn_together(platform: Platform) -> None:
    model = platform.gated["batched"]
    first = begin(platform, model="batched", job_id="first")
    await reaches(platform, "first", States.STATE_RUNNING)
    calls = [first]
    for number, more in enumerate([{}, {"steps": 3}, {"prompt": "b"}, {"steps": 3}, {"width": 32}]):
        given = {"model": "batched", "seed": number, "job_id": f"j{number}", **more}
        calls.append(begin(platform, metadata(USERS[number]), **given))
        await reaches(platform, f"j{number}", States.STATE_QUEUED)
    model.open()
    await asyncio.gather(*calls)
    assert model.passes == [[7], [0, 2], [1, 3], [4]]


async def test_callers_take_turns(platform: Platform) -> None:
    model = platform.gated["gated"]
    long = begin(platform, model="gated", seed=100, batch_size=4, batch_count=2, job_id="long")
    await reaches(platform, "long", States.STATE_RUNNING)
    other = begin(platform, OTHER, model="gated", seed=200, batch_count=2, job_id="other")
    await reaches(platform, "other", States.STATE_QUEUED)
    hurried = begin(
        platform, ADMIN, model="gated", seed=300, batch_count=2, job_id="hurried", priority=3
    )
    await reaches(platform, "hurried", States.STATE_QUEUED)
    assert (await state(platform, "hurried")).queue_position == 0
    assert (await state(platform, "other")).queue_position == 1
    model.open()
    await asyncio.gather(long, other, hurried)
    drawn = [seed for seeds in model.passes for seed in seeds]
    assert drawn[:3] == [100, 300, 301], "what is urgent comes first"
    turns = drawn[3:]
    assert sorted(drawn) == [*range(100, 108), 200, 201, 300, 301]
    assert turns.index(201) <= 4, "a small job does not wait for a large one"


async def test_an_interrupted_job_answers_with_what_there_is(platform: Platform) -> None:
    model = platform.gated["gated"]
    call = begin(platform, model="gated", seed=10, batch_size=2, batch_count=2, job_id="x")
    model.step(4)  # the first image
    await reaches(platform, "x", States.STATE_RUNNING, 2)
    model.step(2)
    await reaches(platform, "x", States.STATE_RUNNING, 3)
    assert await interrupt(platform, "x") == ["x"]
    model.step()
    answer = await call
    assert [image.index for image in answer.images] == [0, 1]
    assert (answer.finish.reason, answer.finish.image_count) == (INTERRUPTED, 2)
    assert len(answer.finish.info["infotexts"]) == 2
    whole = await files(platform.image.Generate(request(seed=10, batch_size=2), metadata=USER))
    assert pixels(answer.images[0].data) == pixels(whole[0])
    assert pixels(answer.images[1].data) != pixels(whole[1]), "it is as it was"
    assert Image.open(io.BytesIO(answer.images[1].data)).size == (SIDE, SIDE)
    assert await interrupt(platform, "x") == []
    assert (await state(platform, "x", USER)).state == States.STATE_FINISHED


async def test_a_job_that_waits_ends_at_once(platform: Platform) -> None:
    running = begin(platform, model="gated", job_id="running")
    await reaches(platform, "running", States.STATE_RUNNING)
    waiting = begin(platform, model="gated", job_id="waiting")
    await reaches(platform, "waiting", States.STATE_QUEUED)
    assert await interrupt(platform) == ["running"], "without an ID: what is being drawn"
    assert (await state(platform, "running")).state == States.STATE_INTERRUPTING
    assert await interrupt(platform, "waiting") == ["waiting"]
    answer = await waiting
    assert (answer.finish.reason, len(answer.images)) == (INTERRUPTED, 0)
    platform.gated["gated"].step()
    assert len((await running).images) == 1
    assert platform.gated["gated"].passes == [[7]]


async def test_one_of_a_merged_pass_ends_and_the_others_go_on(platform: Platform) -> None:
    model = platform.gated["batched"]
    first = begin(platform, model="batched", job_id="first")
    await reaches(platform, "first", States.STATE_RUNNING)
    who = {name: metadata(USERS[number]) for number, name in enumerate("abc")}
    calls = {}
    for number, name in enumerate("abc"):
        calls[name] = begin(platform, who[name], model="batched", seed=number, job_id=name)
        await reaches(platform, name, States.STATE_QUEUED)
    model.step(4)
    await first
    model.step(2)
    await reaches(platform, "c", States.STATE_RUNNING, 2)
    assert model.passes == [[7], [0, 1, 2]]
    assert await interrupt(platform, who=who["b"]) == ["b"]
    calls["a"].cancel()
    model.step()
    answer = await calls["b"]  # while the others are still drawn
    assert (answer.finish.reason, len(answer.images)) == (INTERRUPTED, 1)
    await reaches(platform, "c", States.STATE_RUNNING, 3)
    assert (await state(platform, "c")).step == 3
    model.step()
    third = await calls["c"]
    assert third.finish.reason == COMPLETED
    alone = await files(platform.image.Generate(request(seed=2), metadata=USER))
    assert pixels(third.images[0].data) == pixels(alone[0])


async def test_skipping_goes_on_with_the_next_batch(platform: Platform) -> None:
    model = platform.gated["gated"]
    call = begin(platform, model="gated", seed=10, batch_size=2, batch_count=2, job_id="x")
    await reaches(platform, "x", States.STATE_RUNNING)
    model.step(2)
    await reaches(platform, "x", States.STATE_RUNNING, 1)  # two of four, of one image of two
    assert await skip(platform, who=OTHER) == []
    assert await skip(platform) == ["x"]
    assert await skip(platform) == [], "it is skipped already"
    assert (await state(platform, "x")).skipped
    assert model.passes == [[10]]
    model.step()  # within this one, the batch is given up: all others are held back still
    await until(lambda: model.passes == [[10], [12]])
    model.open()
    answer = await call
    assert answer.finish.reason == COMPLETED
    assert [image.index for image in answer.images] == [0, 2, 3]
    assert model.passes == [[10], [12], [13]]
    whole = await files(
        platform.image.Generate(request(seed=10, batch_size=2, batch_count=2), metadata=USER)
    )
    assert [pixels(image.data) for image in answer.images][1:] == [pixels(one) for one in whole[2:]]


async def test_a_client_that_leaves_cancels_its_job(platform: Platform) -> None:
    model = platform.gated["gated"]
    running = platform.image.StreamGenerate(
        request(model="gated", batch_count=3, job_id="x"), metadata=USER
    )
    reading = asyncio.create_task(events_of(running))
    await reaches(platform, "x", States.STATE_RUNNING)
    waiting = begin(platform, OTHER, model="gated", seed=50, job_id="waits")
    await reaches(platform, "waits", States.STATE_QUEUED)
    leaving = begin(platform, model="gated", seed=60, job_id="leaves")
    await reaches(platform, "leaves", States.STATE_QUEUED)
    assert (await state(platform, "leaves")).queue_position == 1
    running.cancel()
    leaving.cancel()
    await asyncio.gather(reading, leaving, return_exceptions=True)
    await reaches(platform, "x", States.STATE_FINISHED)
    await reaches(platform, "leaves", States.STATE_FINISHED)
    model.step()  # within this one, it is given up
    await reaches(platform, "waits", States.STATE_RUNNING)
    model.open()
    assert len((await waiting).images) == 1
    assert model.passes == [[7], [50]]
    await idle(platform, "gated")


async def test_a_full_queue(platform: Platform) -> None:
    calls = [begin(platform, model="gated", job_id=f"j{number}") for number in range(3)]
    batcher = platform.registry.served()["gated"].loaded.batcher
    await until(lambda: (batcher.status().running, batcher.status().waiting) == (1, 2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.image.Generate(request(model="gated"), metadata=OTHER)
    assert reason(caught.value) == ("QUEUE_FULL", "")
    delay = details(caught.value, error_details_pb2.RetryInfo()).retry_delay
    assert delay.ToMilliseconds() > 0
    assert len(await files(platform.image.Generate(request(), metadata=OTHER))) == 1, (
        "another model"
    )
    platform.gated["gated"].open()
    await asyncio.gather(*calls)
    assert len(await files(platform.image.Generate(request(model="gated"), metadata=OTHER))) == 1


async def test_deadlines_count_in_the_queue(platform: Platform) -> None:
    running = begin(platform, model="gated", job_id="running")
    await reaches(platform, "running", States.STATE_RUNNING)
    call = platform.image.Generate(
        request(model="gated", job_id="late"), metadata=USER, timeout=0.3
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await reaches(platform, "late", States.STATE_FINISHED)
    platform.gated["gated"].open()
    assert len((await running).images) == 1
    assert platform.gated["gated"].passes == [[7]], "it was never drawn"


async def test_a_deadline_ends_what_is_drawn(platform: Platform) -> None:
    call = platform.image.Generate(request(model="gated", job_id="x"), metadata=USER, timeout=0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    platform.gated["gated"].step()
    await idle(platform, "gated")
    assert len(await files(platform.image.Generate(request(), metadata=USER))) == 1


async def test_an_id_is_one_jobs_while_it_lives(platform: Platform) -> None:
    running = begin(platform, model="gated", job_id="x")
    await reaches(platform, "x", States.STATE_RUNNING)
    for who in (USER, OTHER):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await platform.image.Generate(request(job_id="x"), metadata=who)
        assert reason(caught.value) == ("ALREADY_EXISTS", "job_id")
    platform.gated["gated"].open()
    await running
    again = await platform.image.Generate(request(job_id="x"), metadata=OTHER)
    assert again.job_id == "x"
    assert (await state(platform, "x", OTHER)).state == States.STATE_FINISHED
    assert (await state(platform, "x", USER)).state == States.STATE_UNSPECIFIED


async def test_jobs_of_others_are_not_seen(platform: Platform) -> None:
    nothing = progress_pb2.Progress()
    assert await state(platform, "", USER) == nothing
    running = begin(platform, model="gated", job_id="x", preview_interval_steps=1)
    await reaches(platform, "x", States.STATE_RUNNING)
    assert await state(platform, "x", OTHER) == nothing
    assert await state(platform, "", OTHER) == nothing
    assert await interrupt(platform, "x", OTHER) == []
    assert await skip(platform, "x", OTHER) == []
    assert await interrupt(platform, who=ADMIN) == [], "without an ID: the caller's own"
    platform.gated["gated"].step()
    await reaches(platform, "x", States.STATE_RUNNING, 1)
    own = await state(platform, "", USER)
    assert (own.job_id, own.step, own.step_count) == ("x", 1, 4)
    assert own.preview.data
    asked = pb.GetProgressRequest(job_id="x", skip_preview=True)
    assert not (await platform.image.GetProgress(asked, metadata=USER)).HasField("preview")
    assert await interrupt(platform, "x", ADMIN) == ["x"]
    platform.gated["gated"].step()
    assert (await running).finish.reason == INTERRUPTED


async def test_unloading_a_model_tells_its_callers(platform: Platform) -> None:
    running = begin(platform, model="gated", job_id="running")
    await reaches(platform, "running", States.STATE_RUNNING)
    waiting = begin(platform, model="gated", job_id="waiting")
    await reaches(platform, "waiting", States.STATE_QUEUED)
    await platform.registry.served()["gated"].loaded.close()
    for call in (running, waiting):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.image.Generate(request(model="gated"), metadata=USER)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_drain_lets_jobs_finish(platform: Platform) -> None:
    call = begin(platform, model="gated", job_id="x")
    await reaches(platform, "x", States.STATE_RUNNING)
    stopping = asyncio.create_task(platform.server.stop(60))
    platform.gated["gated"].open()
    assert len((await call).images) == 1
    await stopping


SLOW = {"model": "gated", "seed": 100, "steps": 1, "job_id": "slow", "batch_count": 12}


def noise() -> bytes:
    """A picture that no format makes much smaller."""
    file = io.BytesIO()
    Image.effect_noise((256, 256), 90).convert("RGB").save(file, "PNG")
    return file.getvalue()


def corner() -> image_pb2.Inpainting:
    """Draws a corner anew: the rest of the picture comes back as it was."""
    mask = Image.new("L", (256, 256))
    mask.paste(255, (0, 0, 8, 8))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return image_pb2.Inpainting(mask=file.getvalue(), full_resolution=False)


async def test_a_reader_who_is_behind_holds_up_only_its_own_job(tmp_path: Path) -> None:
    """Its images wait, in bounded memory; what others ask for is drawn meanwhile."""
    async with (
        platform_of(tmp_path, unread_bytes=100_000) as platform,
        # Whose transport takes little of what nobody reads.
        grpc.aio.insecure_channel(platform.server.address, [("grpc.http2.bdp_probe", 0)]) as narrow,
    ):
        model = platform.gated["gated"]
        model.open()
        large = request(
            **SLOW,
            init_images=[noise()],
            inpainting=corner(),
        )
        call = ImageServiceStub(narrow).StreamGenerate(large, metadata=USER)
        first = await call.read()
        assert first.WhichOneof("event") == "queued"
        # It would have its turns between these, were there room for its images.
        for number in range(24):
            asked = request(model="gated", seed=number, steps=1)
            assert len(await files(platform.image.Generate(asked, metadata=OTHER))) == 1
        drawn = [seed for seeds in model.passes for seed in seeds if seed >= 100]
        # What the transport took, one on its way to it, and what was too much for the bound.
        assert 1 <= len(drawn) <= 6
        sizes: list[int] = []
        while (event := await call.read()) is not grpc.aio.EOF:
            if event.HasField("image"):
                sizes.append(len(event.image.data))
        assert event is grpc.aio.EOF
        assert len(sizes) == 12
        assert min(sizes) > 60_000
        seeds = [seed for seeds in model.passes for seed in seeds if seed >= 100]
        assert seeds == list(range(100, 112))


async def test_the_queue_tells_what_runs(platform: Platform) -> None:
    running = begin(platform, model="gated", job_id="x")
    await reaches(platform, "x", States.STATE_RUNNING)
    waiting = begin(platform, model="gated", job_id="y")
    await reaches(platform, "y", States.STATE_QUEUED)
    queue = await platform.image.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    assert (queue.depth, queue.pending, queue.active_workers) == (2, 1, 1)
    worker = next(each for each in queue.workers if each.model == "gated")
    assert worker.current_job == "x"
    platform.gated["gated"].open()
    await asyncio.gather(running, waiting)


def test_states_are_those_of_the_proto() -> None:
    for ours, theirs, prefix in (
        (events.State, States.State, "STATE_"),
        (events.FinishReason, progress_pb2.ImageFinishReason, "IMAGE_FINISH_REASON_"),
        (domain.OutputFormat, image_pb2.OutputFormat, "OUTPUT_FORMAT_"),
        (domain.Resize, image_pb2.ResizeMode, "RESIZE_MODE_"),
        (domain.MaskFill, image_pb2.Inpainting.Fill, "FILL_"),
    ):
        known = {each.name: each.value for each in ours}
        wanted = {name.removeprefix(prefix): value for name, value in theirs.items()}
        assert known == {name: value for name, value in wanted.items() if value}

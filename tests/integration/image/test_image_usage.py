"""Every job has one record of what it used, written before its caller is told of the end."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from penstock.image.v1 import image_service_pb2 as pb
from penstock.image.v1 import progress_pb2

from services.errors import MessageTooLarge
from services.image.collecting import collect
from services.image.events import Event, FinishedImage, Queued
from services.metering import Outcome, outcome_of
from services.usage.journal import segments, taken
from services.usage.records import Record
from tests.integration.image.image_platform import (
    OTHER,
    USER,
    Platform,
    events_of,
    reaches,
    request,
)
from tests.unit.image.gated_model import until

RUNNING = progress_pb2.Progress.STATE_RUNNING


def records(platform: Platform) -> list[Record]:
    """All that was written down, oldest first."""
    platform.journal.rotate()
    found: list[Record] = []
    for path in segments(platform.journal.folder):
        with taken(path) as segment:
            assert segment is not None
            assert segment.broken == []
            found += segment.records
    return found


async def only(platform: Platform) -> Record:
    """The one record, once it is there."""
    await until(lambda: records(platform))
    (record,) = records(platform)
    return record


def with_id(who: Any, id: str, *more: tuple[str, str]) -> Any:
    return (*who, ("x-request-id", id), *more)


async def test_an_answer_and_a_stream_have_records(platform: Platform) -> None:
    asked = request("two words", batch_size=2, batch_count=3, user="end user")
    answer = await platform.image.Generate(asked, metadata=with_id(USER, "one"))
    assert len(answer.images) == 6
    (first,) = records(platform)
    assert (first.outcome, first.images) == (Outcome.OK, 6)
    assert first.prompt_tokens == answer.finish.usage.prompt_tokens > 0
    assert (first.completion_tokens, first.cached_tokens) == (0, 0)
    assert (first.request_id, first.user, first.dialect) == ("one", "end user", "grpc")
    assert (first.model, first.method) == ("echo", "penstock.image.v1.ImageService/Generate")
    assert first.principal.startswith("api-token-")
    assert first.queued_us >= 0
    assert first.ran_us > 0

    call = platform.image.StreamGenerate(
        request(model="default-image"),
        metadata=with_id(OTHER, "two", ("x-penstock-dialect", "openai")),
    )
    async for event in call:
        if event.WhichOneof("event") == "finish":
            assert len(records(platform)) == 2, "it is written before the end is told"
    second = records(platform)[1]
    assert (second.outcome, second.images, second.dialect) == (Outcome.OK, 1, "openai")
    assert second.model == "echo", "an alias is not an ID"
    assert second.principal != first.principal
    assert second.method == "penstock.image.v1.ImageService/StreamGenerate"


async def test_a_retry_has_the_record_of_what_it_repeats(platform: Platform) -> None:
    for asked, id in (("a", "x"), ("a", "x"), ("b", "x"), ("a", "y")):
        await platform.image.Generate(request(asked), metadata=with_id(USER, id))
    first, again, other, later = (record.id for record in records(platform))
    assert first == again
    assert len({first, other, later}) == 3
    for _ in range(2):  # without an ID, each is its own
        await platform.image.Generate(request("a"), metadata=USER)
    assert len({record.id for record in records(platform)}) == 5


async def test_requests_that_are_refused_have_none(platform: Platform) -> None:
    for wrong in ({"model": "nobody"}, {"width": 100_000}, {"steps": 10_000}):
        with pytest.raises(grpc.aio.AioRpcError):
            await platform.image.Generate(request(**wrong), metadata=USER)
    assert records(platform) == []


async def test_images_are_counted_as_far_as_they_were_drawn(platform: Platform) -> None:
    gate = platform.gated["gated"]
    call = platform.image.StreamGenerate(
        request(model="gated", batch_count=3, job_id="j"), metadata=USER
    )
    await reaches(platform, "j", RUNNING)
    gate.step(5)  # an image, and what comes after it
    while (await call.read()).WhichOneof("event") != "image":
        pass
    call.cancel()
    gate.step(50)
    record = await only(platform)
    assert (record.outcome, record.images) == (Outcome.CANCELLED, 1)
    assert record.prompt_tokens > 0


async def test_a_job_that_never_ran_used_nothing(platform: Platform) -> None:
    first = asyncio.create_task(
        events_of(platform.image.StreamGenerate(request(model="gated", job_id="a"), metadata=USER))
    )
    await reaches(platform, "a", RUNNING)
    second = platform.image.StreamGenerate(request(model="gated"), metadata=OTHER)
    assert (await second.read()).WhichOneof("event") == "queued"
    second.cancel()
    record = await only(platform)
    assert (record.outcome, record.images, record.prompt_tokens) == (Outcome.CANCELLED, 0, 0)
    assert record.ran_us == 0
    platform.gated["gated"].open()
    await first
    assert [record.outcome for record in records(platform)] == [Outcome.CANCELLED, Outcome.OK]


async def test_a_deadline_that_passes_is_told_as_one(platform: Platform) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.image.Generate(request(model="gated"), metadata=USER, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await only(platform)).outcome == Outcome.DEADLINE_EXCEEDED
    platform.gated["gated"].open()


async def test_an_interrupted_job_was_cancelled(platform: Platform) -> None:
    gate = platform.gated["gated"]
    call = asyncio.create_task(
        events_of(platform.image.StreamGenerate(request(model="gated", job_id="j"), metadata=USER))
    )
    await reaches(platform, "j", RUNNING)
    await platform.image.Interrupt(pb.InterruptRequest(job_id="j"), metadata=USER)
    gate.open()
    last = (await call)[-1]
    record = await only(platform)
    assert (record.outcome, record.images) == (Outcome.CANCELLED, last[1].image_count)


async def test_images_that_fit_no_answer_are_a_failure() -> None:
    """Whoever draws them learns why the job ends: nobody has left it."""
    ends: list[Outcome] = []

    async def job() -> AsyncGenerator[Event, None]:
        try:
            yield Queued("job", "echo", 0, 0.0)
            yield FinishedImage(0, b"data", "image/png", 64, 64, 7, None, "text")
        except BaseException as error:
            ends.append(outcome_of(error))
            raise

    with pytest.raises(MessageTooLarge):
        await collect(job(), most_bytes=1)
    assert ends == [Outcome.FAILED]

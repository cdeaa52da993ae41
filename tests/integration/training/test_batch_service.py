"""Batches over gRPC: made, read, worked on and finished, and what is left when something breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.training.internal.v1 import batch_work_service_pb2 as work_pb
from penstock.training.v1 import batch_service_pb2, file_pb2

from services.training.batch_lines import LONGEST_LINE
from services.training.batches import BatchLimits
from tests.integration.training.batch_platform import (
    EDGE,
    ENDPOINT,
    Batch,
    Office,
    line,
    text_of,
)
from tests.integration.training.file_platform import ADMIN, ME, YOU, platform

LIMITS = BatchLimits(max_lines=5, max_file_bytes=100_000, max_unended=3)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with platform(tmp_path) as service:
        yield Office(service)


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Office]:
    """One with small limits."""
    async with platform(tmp_path, batch_limits=LIMITS) as service:
        yield Office(service)


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details() or ""


async def test_from_its_file_to_its_end(office: Office) -> None:
    made = await office.create(
        text_of([line(number) for number in range(4)]),
        metadata={"a": "b"},
        output_time_to_live=Duration(seconds=7200),
    )
    assert made.state == Batch.STATE_VALIDATING
    assert made.name.startswith("batches/batch_")
    assert made.completion_window.seconds == 24 * 3600
    assert made.expire_time.seconds - made.create_time.seconds == 24 * 3600
    assert await office.lease() is None

    await office.service.keeper.work()
    lease = await office.leased()
    assert lease.batch == made.name
    assert lease.endpoint == ENDPOINT
    assert lease.owner == made.owner
    page = await office.read(lease)
    assert [one.custom_id for one in page.lines] == ["c-0", "c-1", "c-2", "c-3"]
    assert json.loads(page.lines[2].body) == {"model": "words", "n": 2}
    assert len({one.id for one in page.lines}) == 4
    assert not page.HasField("next")

    standing = await office.append(lease, {3: b'{"n":3}', 1: b'{"n":1}'}, failed=[1])
    assert not standing.finished
    standing = await office.append(lease, {0: b'{"n":0}', 2: b'{"n":2}'})
    assert standing.finished
    assert (await office.get(made.name)).state == Batch.STATE_FINALIZING
    await office.service.keeper.work()

    done = await office.get(made.name)
    assert done.state == Batch.STATE_COMPLETED
    counts = done.counts
    assert (counts.total_count, counts.completed_count, counts.failed_count) == (4, 3, 1)
    assert await office.lines(done.output_file) == [b'{"n":3}', b'{"n":0}', b'{"n":2}']
    assert await office.lines(done.error_file) == [b'{"n":1}']
    for name in ("in_progress_time", "finalizing_time", "completed_time"):
        assert done.HasField(name), name
    for name in ("failed_time", "expired_time", "cancelling_time", "cancelled_time"):
        assert not done.HasField(name), name
    seen = await office.service.stub.GetFile(_file_request(done.output_file), metadata=ME)
    assert seen.purpose == file_pb2.FILE_PURPOSE_BATCH_OUTPUT
    assert seen.owner == made.owner
    assert seen.filename == f"{made.name.removeprefix('batches/')}_output.jsonl"
    assert seen.expire_time.seconds - seen.create_time.seconds == 7200
    await office.service.files.sweep()
    names = {made.input_file, done.output_file, done.error_file}
    assert set(office.service.on_disk()) == {name.removeprefix("files/") for name in names}


def _file_request(name: str) -> Any:
    from penstock.training.v1 import training_service_pb2

    return training_service_pb2.GetFileRequest(name=name)


async def test_each_sees_its_own(office: Office) -> None:
    mine = await office.create()
    yours = await office.create(who=YOU)
    code, _ = await refused(office.get(yours.name))
    assert code == grpc.StatusCode.NOT_FOUND
    code, _ = await refused(office.cancel(yours.name))
    assert code == grpc.StatusCode.NOT_FOUND
    listed = await office.stub.ListBatches(batch_service_pb2.ListBatchesRequest(), metadata=ME)
    assert [one.name for one in listed.batches] == [mine.name]
    listed = await office.stub.ListBatches(batch_service_pb2.ListBatchesRequest(), metadata=ADMIN)
    assert [one.name for one in listed.batches] == [yours.name, mine.name]
    assert (await office.get(yours.name, who=ADMIN)).owner == yours.owner


async def test_pages(office: Office) -> None:
    made = [(await office.create()).name for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        request = batch_service_pb2.ListBatchesRequest(page_size=2, page_token=token)
        page = await office.stub.ListBatches(request, metadata=ME)
        seen += [one.name for one in page.batches]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    request = batch_service_pb2.ListBatchesRequest(after=made[3])
    page = await office.stub.ListBatches(request, metadata=ME)
    assert [one.name for one in page.batches] == made[2::-1]


async def test_the_same_request_makes_one_batch(office: Office) -> None:
    file = await office.upload(text_of([line(0)]))
    first = await office.create(input_file=file, request_id="r")
    assert await office.create(input_file=file, request_id="r") == first
    code, _ = await refused(office.create(input_file=file, request_id="r", metadata={"a": "b"}))
    assert code == grpc.StatusCode.ALREADY_EXISTS


async def test_a_users_key_does_not_work_on_batches(office: Office) -> None:
    await office.begun()
    for who in (ME, ADMIN):
        code, _ = await refused(office.lease(who=who))
        assert code == grpc.StatusCode.PERMISSION_DENIED


async def test_limits(small: Office) -> None:
    big = await small.upload(b" " * 100_001)
    code, told = await refused(small.create(input_file=big))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "100,000" in told
    for _ in range(3):
        await small.create()
    code, _ = await refused(small.create())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


BAD_LINES: list[tuple[list[Any], list[tuple[str, str, int | None]]]] = [
    ([], [("empty_file", "", None)]),
    ([b"", b"  "], [("empty_file", "", None)]),
    ([line(0), b"{", line(1)], [("invalid_json_line", "", 2)]),
    ([b"[]"], [("invalid_json_line", "", 1)]),
    ([b"\xff"], [("invalid_json_line", "", 1)]),
    ([line(0), b"", line(0)], [("duplicate_custom_id", "custom_id", 3)]),
    ([line(0, custom_id="")], [("missing_required_parameter", "custom_id", 1)]),
    ([line(0, custom_id=None)], [("missing_required_parameter", "custom_id", 1)]),
    ([line(0, custom_id=7)], [("invalid_custom_id", "custom_id", 1)]),
    ([line(0, custom_id="x" * 513)], [("invalid_custom_id", "custom_id", 1)]),
    ([line(0, method="GET")], [("invalid_method", "method", 1)]),
    ([line(0, method=None)], [("missing_required_parameter", "method", 1)]),
    ([line(0, url="/v1/embeddings")], [("mismatched_url", "url", 1)]),
    ([line(0, body=None)], [("missing_required_parameter", "body", 1)]),
    ([line(0, body=[])], [("invalid_body", "body", 1)]),
    (
        [line(0, url="/x"), line(1), line(2, method="PUT")],
        [("mismatched_url", "url", 1), ("invalid_method", "method", 3)],
    ),
    ([line(number) for number in range(6)], [("too_many_requests", "", 6)]),
]


@pytest.mark.parametrize(("lines", "errors"), BAD_LINES)
async def test_a_bad_line_fails_the_batch(
    small: Office, lines: list[Any], errors: list[tuple[str, str, int | None]]
) -> None:
    made = await small.create(input_file=await small.upload(text_of(lines)))
    await small.service.keeper.work()
    failed = await small.get(made.name)
    assert failed.state == Batch.STATE_FAILED
    assert failed.HasField("failed_time")
    found = [
        (one.code, one.param, one.line if one.HasField("line") else None) for one in failed.errors
    ]
    assert found == errors
    assert all(one.message for one in failed.errors)
    assert await small.lease() is None


async def test_a_line_that_is_too_long(office: Office) -> None:
    long = line(0, body={"x": "y" * LONGEST_LINE})
    made = await office.create(text_of([line(1), long, line(2)]))
    await office.service.keeper.work()
    failed = await office.get(made.name)
    assert [(one.code, one.line) for one in failed.errors] == [("line_too_long", 2)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n", b"\n \n"])
async def test_ends_of_lines_and_marks(office: Office, end: bytes) -> None:
    lines = [json.dumps(line(number)).encode() for number in range(3)]
    made = await office.create(b"\xef\xbb\xbf" + b"\r\n\n".join(lines) + end)
    await office.service.keeper.work()
    assert (await office.get(made.name)).counts.total_count == 3
    lease = await office.leased()
    assert [one.custom_id for one in (await office.read(lease)).lines] == ["c-0", "c-1", "c-2"]


async def test_reading_goes_on_where_it_ended(office: Office) -> None:
    await office.begun(10)
    lease = await office.leased()
    await office.append(lease, {0: b"{}", 4: b"{}", 5: b"{}", 9: b"{}"})
    seen: list[int] = []
    place: Any = None
    while True:
        page = await office.read(lease, place, count=2)
        seen += [one.number for one in page.lines]
        assert [one.custom_id for one in page.lines] == [f"c-{one.number}" for one in page.lines]
        if not page.HasField("next"):
            break
        place = page.next
    assert seen == [1, 2, 3, 6, 7, 8]
    wrong = work_pb.LinePlace(offset_bytes=3, number=1)
    code, _ = await refused(office.read(lease, wrong))
    assert code == grpc.StatusCode.INVALID_ARGUMENT


async def test_results_that_come_again_count_once(office: Office) -> None:
    made = await office.begun(3)
    lease = await office.leased()
    await office.append(lease, {0: b'{"first":1}'})
    await office.append(lease, {0: b'{"second":1}', 1: b"{}"})
    await asyncio.gather(*(office.append(lease, {0: b"{}", 1: b"{}"}) for _ in range(4)))
    await office.append(lease, {2: b"{}", 0: b"{}"})
    await office.service.keeper.work()
    done = await office.get(made.name)
    assert await office.lines(done.output_file) == [b'{"first":1}', b"{}", b"{}"]
    assert done.counts.completed_count == 3


@pytest.mark.parametrize(
    "results",
    [{3: b"{}"}, {0: b"{\n}"}],
)
async def test_results_that_are_none(office: Office, results: dict[int, bytes]) -> None:
    made = await office.begun(3)
    lease = await office.leased()
    code, _ = await refused(office.append(lease, results))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert (await office.get(made.name)).counts.completed_count == 0


async def test_only_the_last_lease_counts(office: Office) -> None:
    await office.begun(2)
    old = await office.leased()
    await office.release(old)
    new = await office.leased()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: office.append(old, {0: b"{}"}),
        lambda: office.read(old),
        lambda: office.fail(old, "c", "m"),
    ]
    for call in calls:
        code, _ = await refused(call())
        assert code == grpc.StatusCode.FAILED_PRECONDITION
    await office.release(old)
    assert (await office.append(new, {0: b"{}", 1: b"{}"})).finished


async def test_cancelled_while_it_waits(office: Office) -> None:
    made = await office.begun(3)
    cancelling = await office.cancel(made.name)
    assert cancelling.state == Batch.STATE_CANCELLING
    assert await office.cancel(made.name) == cancelling
    await office.service.keeper.work()
    done = await office.get(made.name)
    assert done.state == Batch.STATE_CANCELLED
    assert not done.output_file
    told = [json.loads(one) for one in await office.lines(done.error_file)]
    assert [one["custom_id"] for one in told] == ["c-0", "c-1", "c-2"]
    assert {one["error"]["code"] for one in told} == {"batch_cancelled"}
    assert all(one["response"] is None for one in told)
    assert done.counts.failed_count == 3
    assert await office.cancel(made.name) == done


async def test_cancelled_while_it_runs(office: Office) -> None:
    made = await office.begun(3)
    lease = await office.leased()
    await office.append(lease, {1: b'{"n":1}'})
    await office.cancel(made.name)
    await office.service.keeper.work()
    assert (await office.get(made.name)).state == Batch.STATE_CANCELLING
    assert (await office.append(lease, {0: b'{"n":0}'})).cancelling
    await office.release(lease)
    await office.service.keeper.work()
    done = await office.get(made.name)
    assert done.state == Batch.STATE_CANCELLED
    assert await office.lines(done.output_file) == [b'{"n":1}', b'{"n":0}']
    [left] = [json.loads(one) for one in await office.lines(done.error_file)]
    assert left["custom_id"] == "c-2"
    code, _ = await refused(office.append(lease, {2: b"{}"}))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


async def test_cancelled_before_its_file_is_read(office: Office) -> None:
    made = await office.create()
    await office.cancel(made.name)
    await office.service.keeper.work()
    done = await office.get(made.name)
    assert done.state == Batch.STATE_CANCELLED
    assert not done.error_file


async def test_what_has_ended_can_not_be_cancelled(office: Office) -> None:
    made = await office.begun(1)
    await office.append(await office.leased(), {0: b"{}"})
    for _ in range(2):  # finalizing, then completed
        code, told = await refused(office.cancel(made.name))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "completed" in told
        await office.service.keeper.work()


async def test_one_that_can_not_go_on(office: Office) -> None:
    made = await office.begun(2)
    lease = await office.leased()
    await office.append(lease, {1: b"{}"})
    await office.fail(lease, "owner_key_invalid", "The key is gone.")
    await office.service.keeper.work()
    done = await office.get(made.name)
    assert done.state == Batch.STATE_FAILED
    assert [(one.code, one.message) for one in done.errors] == [
        ("owner_key_invalid", "The key is gone.")
    ]
    assert await office.lines(done.output_file) == [b"{}"]
    [left] = [json.loads(one) for one in await office.lines(done.error_file)]
    assert (left["custom_id"], left["error"]["code"]) == ("c-0", "batch_failed")


async def test_a_window_ends(office: Office) -> None:
    made = await office.begun(3, completion_window=Duration(seconds=2))
    lease = await office.leased()
    page = await office.read(lease)
    await office.append(lease, {1: b"{}"})
    async with asyncio.timeout(60):
        while (await office.get(made.name)).state == Batch.STATE_IN_PROGRESS:
            await asyncio.sleep(0.2)
            await office.service.keeper.work()
    done = await office.get(made.name)
    assert done.state == Batch.STATE_EXPIRED
    assert done.HasField("expired_time")
    assert await office.lines(done.output_file) == [b"{}"]
    left = [json.loads(one) for one in await office.lines(done.error_file)]
    assert left == [
        {
            "id": page.lines[number].id,
            "custom_id": f"c-{number}",
            "response": None,
            "error": {
                "code": "batch_expired",
                "message": "This request could not be executed before the completion window "
                "expired.",
            },
        }
        for number in (0, 2)
    ]


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": "no path"}, "endpoint"),
        ({"input_file": "nothing"}, "input_file"),
        ({"completion_window": Duration(seconds=0)}, "completion_window"),
        ({"completion_window": Duration(seconds=40 * 86400)}, "completion_window"),
        ({"output_time_to_live": Duration(seconds=1)}, "output_time_to_live"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"metadata": {"k": "v\0"}}, "metadata"),
    ],
)
async def test_requests_that_make_no_sense(
    office: Office, facts: dict[str, Any], field: str
) -> None:
    code, told = await refused(office.create(**facts))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in told


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda change: line(0, **change),
            st.dictionaries(
                st.sampled_from(["custom_id", "method", "url", "body", "more"]),
                st.one_of(st.none(), st.text(max_size=5), st.integers(), st.just({}), st.just([])),
            ),
        ),
    ),
    max_size=6,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(LINES)
async def test_any_file_comes_to_an_end(office: Office, lines: list[Any]) -> None:
    made = await office.create(input_file=await office.upload(text_of(lines)))
    await office.service.keeper.work()
    batch = await office.get(made.name)
    if batch.state == Batch.STATE_FAILED:
        assert batch.errors
        return
    assert batch.state == Batch.STATE_IN_PROGRESS
    lease = await office.leased()
    page = await office.read(lease)
    assert len(page.lines) == batch.counts.total_count
    await office.append(lease, {one.number: b"{}" for one in page.lines})
    await office.service.keeper.work()
    assert (await office.get(made.name)).state == Batch.STATE_COMPLETED


async def test_the_edge_speaks_with_the_service_token_alone(office: Office) -> None:
    assert EDGE[0][1].endswith("service-token")
    assert await office.lease() is None

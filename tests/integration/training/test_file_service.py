"""Files over gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.training.v1 import file_pb2
from penstock.training.v1 import training_service_pb2 as pb

from services.training.file_servicer import Patience
from services.training.files import FileLimits
from tests.integration.reasons import reason
from tests.integration.training.file_platform import (
    ADMIN,
    FINE_TUNE,
    ME,
    YOU,
    Platform,
    header,
    platform,
    upload,
)

OLDEST_FIRST = "create_time"


def chunk(content: bytes) -> pb.UploadFileRequest:
    return pb.UploadFileRequest(chunk=content)


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Status, reason and field of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), *reason(caught.value)


async def test_what_is_uploaded_is_downloaded(service: Platform) -> None:
    content = os.urandom(3_000_001)
    sha256 = hashlib.sha256(content).hexdigest()
    file = await service.stub.UploadFile(
        upload(
            [content[:1], content[1:1000], b"", content[1000:]],
            filename="ünï 👩.jsonl",
            size_bytes=len(content),
            sha256=sha256,
            time_to_live=Duration(seconds=3600),
        ),
        metadata=ME,
    )
    assert (file.filename, file.purpose, file.size_bytes) == (
        "ünï 👩.jsonl",
        FINE_TUNE,
        len(content),
    )
    assert (file.sha256, file.mime_type) == (sha256, "application/jsonl")
    assert file.owner == "api-token-fece50d2"
    assert (
        file.expire_time.ToDatetime() - file.create_time.ToDatetime()
        == Duration(seconds=3600).ToTimedelta()
    )
    assert await service.stub.GetFile(pb.GetFileRequest(name=file.name), metadata=ME) == file
    assert await service.seen() == [file.name]
    for offset in (0, 1, 1_048_576, len(content)):
        assert await service.read(file.name, offset) == content[offset:]
    await service.stub.DeleteFile(pb.DeleteFileRequest(name=file.name), metadata=ME)
    assert (await service.seen(), service.on_disk()) == ([], [])


async def test_a_download_says_what_it_is_even_without_content(service: Platform) -> None:
    file = await service.put(b"")
    request = pb.DownloadFileRequest(name=file.name)
    parts = [part async for part in service.stub.DownloadFile(request, metadata=ME)]
    # Never what the uploader said it is: a browser might run it.
    assert [(part.content_type, part.data) for part in parts] == [("application/octet-stream", b"")]


BAD_UPLOADS: dict[str, tuple[list[pb.UploadFileRequest], str, str]] = {
    "nothing": ([], "INVALID_ARGUMENT", "header"),
    "empty": ([pb.UploadFileRequest()], "MISSING_FIELD", "payload"),
    "no header": ([chunk(b"x")], "INVALID_ARGUMENT", "header"),
    "two headers": ([header(), chunk(b"x"), header()], "INVALID_ARGUMENT", "header"),
    "no purpose": ([header(purpose=0)], "MISSING_FIELD", "header.purpose"),
    "results": ([header(purpose=2)], "INVALID_ARGUMENT", "header.purpose"),
    "outputs": ([header(purpose=4)], "INVALID_ARGUMENT", "header.purpose"),
    "unknown purpose": ([header(purpose=99)], "INVALID_ARGUMENT", "header.purpose"),
    "no name": ([header(filename="")], "MISSING_FIELD", "header.filename"),
    "too short": ([header(size_bytes=2), chunk(b"x")], "INVALID_ARGUMENT", "header.size_bytes"),
    "too long": ([header(size_bytes=2), chunk(b"xxx")], "INVALID_ARGUMENT", "header.size_bytes"),
    "negative": ([header(size_bytes=-1)], "INVALID_ARGUMENT", "header.size_bytes"),
    "other hash": (
        [header(sha256="0" * 64), chunk(b"x")],
        "INVALID_ARGUMENT",
        "header.sha256",
    ),
    "no hash": ([header(sha256="x")], "INVALID_ARGUMENT", "header.sha256"),
    "short life": (
        [header(time_to_live=Duration(seconds=1))],
        "INVALID_ARGUMENT",
        "header.time_to_live",
    ),
    "no type": ([header(mime_type="a/b\r\nx: y")], "INVALID_ARGUMENT", "header.mime_type"),
    "too large": ([header(size_bytes=10**18)], "MESSAGE_TOO_LARGE", "header.size_bytes"),
    "too large a chunk": (
        [header(), chunk(b"x" * (4 * 1024 * 1024 + 1))],
        "INVALID_ARGUMENT",
        "chunk",
    ),
}
for _name in ("../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "a\0b", "a\nb", "a\x85b", "x" * 256):
    BAD_UPLOADS[repr(_name)[:16]] = (
        [header(filename=_name), chunk(b"x")],
        "INVALID_ARGUMENT",
        "header.filename",
    )


@pytest.mark.parametrize(("sent", "why", "field"), BAD_UPLOADS.values(), ids=BAD_UPLOADS)
async def test_nothing_is_kept_of_a_bad_upload(
    service: Platform, sent: list[pb.UploadFileRequest], why: str, field: str
) -> None:
    async def pieces() -> AsyncIterator[pb.UploadFileRequest]:
        for piece in sent:
            yield piece

    _, found, where = await refused(service.stub.UploadFile(pieces(), metadata=ME))
    assert (found, where) == (why, field)
    assert (await service.seen(), service.on_disk()) == ([], [])


async def test_a_caller_who_sends_on_learns_why(tmp_path: Path) -> None:
    """gRPC's client for asyncio would else tell that it could not send."""
    async with platform(tmp_path, limits=FileLimits(max_file_bytes=1000)) as service:
        for sent in (upload([b"x" * 900] * 300), upload([b"x" * 1000] * 300, purpose=2)):
            code, _, _ = await refused(service.stub.UploadFile(sent, metadata=ME))
            assert code in (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                grpc.StatusCode.INVALID_ARGUMENT,
            )
        assert service.on_disk() == []


async def test_an_upload_that_stands_still_is_given_up(tmp_path: Path) -> None:
    async def still() -> AsyncIterator[pb.UploadFileRequest]:
        yield header()
        yield chunk(b"x")
        await asyncio.Event().wait()

    async with platform(tmp_path, patience=Patience(upload_s=0.2)) as service:
        code, _, _ = await refused(service.stub.UploadFile(still(), metadata=ME))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await service.seen(), service.on_disk()) == ([], [])


@pytest.mark.parametrize("how", ["cancel", "deadline", "channel"])
async def test_an_upload_that_is_broken_off_is_not_taken_for_a_whole_one(
    service: Platform, how: str
) -> None:
    """Its length is not known, and for the server its stream ends like any other."""
    for count in range(12):
        sent = asyncio.Event()

        async def half(count: int = count, sent: asyncio.Event = sent) -> AsyncIterator[Any]:
            yield header()
            for _ in range(count):
                yield chunk(b"x" * 10_000)
            sent.set()
            await asyncio.Event().wait()

        channel = grpc.aio.insecure_channel(service.server.address)
        method = type(service.stub)(channel).UploadFile
        call = method(half(), metadata=ME, timeout=0.3 if how == "deadline" else None)
        await sent.wait()
        if how == "cancel":
            call.cancel()
        if how == "channel":
            await channel.close()
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await call
        await channel.close()
    for _ in range(600):
        if not service.on_disk():
            break
        await asyncio.sleep(0.05)
    assert (await service.seen(ADMIN), service.on_disk()) == ([], [])


async def test_each_sees_its_own(service: Platform) -> None:
    mine, yours = await service.put(), await service.put(who=YOU)
    get, delete = pb.GetFileRequest(name=mine.name), pb.DeleteFileRequest(name=mine.name)
    for call in (
        service.stub.GetFile(get, metadata=YOU),
        service.stub.DeleteFile(delete, metadata=YOU),
        service.read(mine.name, who=YOU),
    ):
        assert (await refused(call))[0] == grpc.StatusCode.NOT_FOUND
    after = pb.ListFilesRequest(after=mine.name)
    code, _, field = await refused(service.stub.ListFiles(after, metadata=YOU))
    assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "after")
    assert await service.seen(YOU) == [yours.name]
    assert set(await service.seen(ADMIN)) == {mine.name, yours.name}
    assert await service.read(mine.name, who=ADMIN) == b"x"
    assert (await service.stub.GetFile(get, metadata=ADMIN)).owner == "api-token-fece50d2"


async def test_strangers_are_turned_away(service: Platform) -> None:
    for metadata in ((), (("authorization", "Bearer nobody"),)):
        code, _, _ = await refused(service.stub.UploadFile(upload([b"x"] * 9), metadata=metadata))
        assert code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["files/../x", "files/", "x", "", "files/a/b"])
async def test_odd_names_are_refused(service: Platform, name: str) -> None:
    for call in (
        service.stub.GetFile(pb.GetFileRequest(name=name), metadata=ME),
        service.stub.DeleteFile(pb.DeleteFileRequest(name=name), metadata=ME),
        service.read(name),
    ):
        code, why, field = await refused(call)
        assert (code, field) == (grpc.StatusCode.INVALID_ARGUMENT, "name")
        assert why in ("INVALID_ARGUMENT", "MISSING_FIELD")


@pytest.mark.parametrize("id", ["..", "%2e%2e", "file-", "file-" + "\0" * 24, "file-" + "a" * 24])
async def test_ids_of_no_file_are_not_found(service: Platform, id: str) -> None:
    for call in (
        service.stub.GetFile(pb.GetFileRequest(name=f"files/{id}"), metadata=ME),
        service.stub.DeleteFile(pb.DeleteFileRequest(name=f"files/{id}"), metadata=ME),
        service.read(f"files/{id}"),
    ):
        assert (await refused(call))[0] == grpc.StatusCode.NOT_FOUND


async def test_beyond_the_end_is_told(service: Platform) -> None:
    file = await service.put(b"four")
    code, why, field = await refused(service.read(file.name, 5))
    assert (code, why, field) == (grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE", "offset_bytes")


async def test_a_request_id_makes_one_file(service: Platform) -> None:
    first = await service.put(b"x", request_id="r")
    assert await service.put(b"x", request_id="r") == first
    again = service.put(b"y", request_id="r")
    assert (await refused(again))[0] == grpc.StatusCode.ALREADY_EXISTS


class TestLists:
    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        size=st.integers(1, 8),
        order=st.sampled_from(["", OLDEST_FIRST, "create_time desc"]),
        purpose=st.sampled_from([0, FINE_TUNE, file_pb2.FILE_PURPOSE_EVALS, 5]),
        by_name=st.booleans(),
    )
    async def test_pages_are_the_list(
        self, service: Platform, size: int, order: str, purpose: int, by_name: bool
    ) -> None:
        files = [
            await service.put(purpose=[FINE_TUNE, file_pb2.FILE_PURPOSE_EVALS][number % 2])
            for number in range(7 - len(await service.seen()))
        ]
        del files
        whole = await service.seen(order_by=order, purpose=purpose)
        found: list[str] = []
        request: dict[str, Any] = {"page_size": size, "order_by": order, "purpose": purpose}
        while True:
            page = await service.stub.ListFiles(pb.ListFilesRequest(**request), metadata=ME)
            names = [file.name for file in page.files]
            assert len(names) <= size
            found += names
            if not page.next_page_token:
                break
            place = {"after": names[-1]} if by_name else {"page_token": page.next_page_token}
            request = request | place
        assert found == whole
        assert len(whole) == {0: 7, 1: 4, 8: 3, 5: 0}[purpose]
        if order == OLDEST_FIRST:
            assert found == (await service.seen(purpose=purpose))[::-1]

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            ({"page_size": -1}, "page_size"),
            ({"page_token": "nonsense"}, "page_token"),
            ({"after": "nonsense"}, "after"),
            ({"order_by": "size"}, "order_by"),
            ({"purpose": 99}, "purpose"),
            ({"after": "files/file-" + "a" * 24}, "after"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(
        self, service: Platform, request_: dict[str, Any], field: str
    ) -> None:
        call = service.stub.ListFiles(pb.ListFilesRequest(**request_), metadata=ME)
        code, _, where = await refused(call)
        assert (code, where) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_a_download_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    async with platform(tmp_path, patience=Patience(reader_s=0.3)) as service:
        file = await service.put(b"x" * 4_000_000)
        large = await service.stub.UploadFile(upload([b"x" * 4_000_000] * 4), metadata=ME)
        call = service.stub.DownloadFile(pb.DownloadFileRequest(name=large.name), metadata=ME)
        got = len((await call.read()).data)
        # The server ends it while nobody reads; then it holds the file no more.
        opened = [str(service.folder / "files" / large.name.removeprefix("files/"))]
        for _ in range(600):
            if not set(opened) & _open_files():
                break
            await asyncio.sleep(0.05)
        assert not set(opened) & _open_files()
        # Nor does it wait for ever to tell why.
        for _ in range(600):
            if not service.server._chain.running:
                break
            await asyncio.sleep(0.05)
        assert not service.server._chain.running
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (part := await call.read()) is not grpc.aio.EOF:
                got += len(part.data)
        assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 < got < 16_000_000
        assert len(await service.read(file.name)) == 4_000_000


def _open_files() -> set[str]:
    found = set[str]()
    for entry in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            continue
    return found

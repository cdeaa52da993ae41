"""Files over real sockets: uploads, lists, downloads, errors."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.edge_backend import CREATED
from tests.integration.gateway.test_edge_streams import read_head
from tests.integration.gateway.test_edge_vector_stores import error_of
from tests.integration.gateway.training_peer import PIECE

FILES = "/v1/files"
LINES = b'{"messages":[]}\n' * 3
FINE_TUNE = {"purpose": "fine-tune"}


async def upload(
    edge: Edge, data: bytes = LINES, filename: str = "a.jsonl", **form: str
) -> httpx.Response:
    files = {"file": (filename, data)}
    return await edge.http.post(FILES, data=form or FINE_TUNE, files=files)


def part(name: str, data: bytes, filename: str | None = None, more: str = "") -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{more}\r\n'
    return head.encode() + data + b"\r\n"


async def post_parts(edge: Edge, *parts: bytes) -> httpx.Response:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return await edge.http.post(FILES, content=b"".join(parts) + b"--b--\r\n", headers=headers)


async def test_an_upload(edge: Edge) -> None:
    answer = await upload(edge)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "id": "file-000000000000000000000001",
        "object": "file",
        "bytes": len(LINES),
        "created_at": CREATED + 1,
        "filename": "a.jsonl",
        "purpose": "fine-tune",
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }
    peer = edge.vectors.training
    assert peer.contents["files/file-000000000000000000000001"] == LINES
    assert peer.headers[0].size_bytes == len(LINES)
    assert peer.metadata[-1]["authorization"] == "Bearer sk-test"
    assert peer.metadata[-1]["x-request-id"] == answer.headers["x-request-id"]


async def test_an_upload_that_expires(edge: Edge) -> None:
    wanted = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = (await upload(edge, **FINE_TUNE, **wanted)).json()
    assert made["expires_at"] == made["created_at"] + 3600
    assert edge.vectors.training.headers[-1].time_to_live.seconds == 3600
    got = (await edge.http.get(f"{FILES}/{made['id']}")).json()
    assert got == made


async def test_fields_may_stand_behind_the_file(edge: Edge) -> None:
    answer = await post_parts(
        edge,
        part("file", LINES, "a.jsonl", "Content-Type: application/jsonl\r\n"),
        part("purpose", b"batch"),
        part("unknown", b"x"),
        part("expires_after[anchor]", b"created_at"),
        part("expires_after[seconds]", b"7200"),
    )
    assert answer.json()["purpose"] == "batch"
    header = edge.vectors.training.headers[-1]
    assert (header.mime_type, header.time_to_live.seconds) == ("application/jsonl", 7200)


@pytest.mark.parametrize("size", [0, 1, 512 * 1024, 3 * 1024 * 1024 + 1])
async def test_large_files_travel_in_pieces(edge: Edge, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    made = (await upload(edge, data, "a.bin", purpose="user_data")).json()
    assert made["bytes"] == size
    assert sum(edge.vectors.training.chunk_sizes) == size
    assert max(edge.vectors.training.chunk_sizes, default=0) <= 512 * 1024
    answer = await edge.http.get(f"{FILES}/{made['id']}/content")
    assert answer.content == data
    assert answer.headers["content-length"] == str(size)


@pytest.mark.parametrize(
    "purpose", ["fine-tune", "batch", "user_data", "assistants", "vision", "evals"]
)
async def test_purposes(edge: Edge, purpose: str) -> None:
    assert (await upload(edge, purpose=purpose)).json()["purpose"] == purpose
    assert [
        item["purpose"]
        for item in (await edge.http.get(f"{FILES}?purpose={purpose}")).json()["data"]
    ] == [purpose]


BAD_FORMS: list[tuple[list[bytes], str, str | None]] = [
    ([part("file", b"x", "a")], "purpose", "missing_required_parameter"),
    ([part("purpose", b"fine-tune")], "file", "missing_required_parameter"),
    ([part("purpose", b"", None), part("file", b"x", "a")], "purpose", "invalid_value"),
    ([part("purpose", b"tune"), part("file", b"x", "a")], "purpose", "invalid_value"),
    ([part("purpose", b"fine-tune-results"), part("file", b"x", "a")], "purpose", "invalid_value"),
    ([part("purpose", b"batch_output"), part("file", b"x", "a")], "purpose", "invalid_value"),
    ([part("purpose", b"batch"), part("file", b"some text")], "file", "invalid_type"),
    (
        [part("purpose", b"batch"), part("file", b"x", "a"), part("file", b"y", "b")],
        "file",
        "invalid_value",
    ),
    ([part("purpose", b"batch"), part("file", b"x", "..")], "file", "invalid_value"),
    ([part("purpose", b"batch"), part("file", b"x", "a/")], "file", "invalid_value"),
    ([part("purpose", b"batch"), part("file", b"x", "é" * 128)], "file", "invalid_value"),
    (
        [
            part("purpose", b"batch"),
            part("file", b"x", "a", f"Content-Type: text/{'x' * 130}\r\n"),
        ],
        "file",
        "invalid_value",
    ),
    (
        [
            part("purpose", b"batch"),
            part("expires_after[seconds]", b"3600"),
            part("file", b"", "a"),
        ],
        "expires_after.anchor",
        "missing_required_parameter",
    ),
    (
        [
            part("purpose", b"batch"),
            part("expires_after[anchor]", b"last_active_at"),
            part("expires_after[seconds]", b"3600"),
            part("file", b"", "a"),
        ],
        "expires_after.anchor",
        "invalid_value",
    ),
    (
        [
            part("purpose", b"batch"),
            part("expires_after[anchor]", b"created_at"),
            part("expires_after[seconds]", b"3599"),
            part("file", b"", "a"),
        ],
        "expires_after.seconds",
        "integer_below_min_value",
    ),
]


@pytest.mark.parametrize(("parts", "param", "code"), BAD_FORMS)
async def test_bad_forms(edge: Edge, parts: list[bytes], param: str, code: str) -> None:
    error = error_of(await post_parts(edge, *parts))
    assert (error["param"], error["code"]) == (param, code), error
    assert error["type"] == "invalid_request_error"
    assert not edge.vectors.training.files


async def test_an_unknown_purpose_names_those_there_are(edge: Edge) -> None:
    error = error_of(await upload(edge, purpose="search"))
    assert "'fine-tune'" in error["message"]
    assert "'evals'" in error["message"]


async def test_json_is_no_upload(edge: Edge) -> None:
    error = error_of(await edge.http.post(FILES, json={"purpose": "batch"}))
    assert "multipart/form-data" in error["message"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("dir/a.jsonl", "a.jsonl"),
        ("C:\\data\\a.jsonl", "a.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("naïve — 数据.jsonl", "naïve — 数据.jsonl"),
        ("a b;c=d.jsonl", "a b;c=d.jsonl"),
    ],
)
async def test_filenames(edge: Edge, sent: str, kept: str) -> None:
    made = (await post_parts(edge, part("purpose", b"batch"), part("file", b"x", sent))).json()
    assert made["filename"] == kept
    content = await edge.http.get(f"{FILES}/{made['id']}/content")
    assert content.status_code == 200
    assert content.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")


async def test_a_file_without_a_name(edge: Edge) -> None:
    nameless = part("file", b"x", None, "Content-Type: application/octet-stream\r\n")
    made = (await post_parts(edge, part("purpose", b"batch"), nameless)).json()
    assert made["filename"] == "upload"
    assert edge.vectors.training.headers[-1].mime_type == ""


@pytest.mark.parametrize(
    ("reason", "path", "status", "param"),
    [
        ("INVALID_ARGUMENT", "header.filename", 400, "file"),
        ("INVALID_ARGUMENT", "header.time_to_live", 400, "expires_after.seconds"),
        ("INVALID_ARGUMENT", "header.purpose", 400, "purpose"),
        ("INVALID_ARGUMENT", "chunk", 400, "file"),
        ("QUEUE_FULL", "x", 503, "x"),
        ("PERMISSION_DENIED", "x", 403, "x"),
    ],
)
async def test_what_the_service_refuses(
    edge: Edge, reason: str, path: str, status: int, param: str
) -> None:
    error = error_of(await upload(edge, filename=f"fails-{reason}-{path}"), status)
    assert error["param"] == param


async def test_a_refusal_ends_an_upload_that_has_more_to_send(edge: Edge) -> None:
    data = b"x" * (8 * 1024 * 1024)
    error = error_of(await upload(edge, data, "fails-INVALID_ARGUMENT-chunk"))
    assert error["param"] == "file"
    assert (await upload(edge)).status_code == 200


async def test_no_room_for_an_upload(edge: Edge) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 1024 * 1024, hard))
    try:
        error = error_of(await upload(edge, b"x" * (4 * 1024 * 1024)), 507)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error["code"] == "storage_full"
    assert (await upload(edge)).status_code == 200


class TestSmallUploads:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"api": {"max_upload_bytes": 1000}, "max_body_bytes": 500}

    async def test_the_limit_is_of_the_file(self, edge: Edge) -> None:
        assert (await upload(edge, b"x" * 1000)).status_code == 200
        error = error_of(await upload(edge, b"x" * 1001), 413)
        assert error["param"] == "file"
        assert "1000 bytes" in error["message"]

    async def test_the_whole_body_has_one_too(self, edge: Edge) -> None:
        error_of(await upload(edge, b"x" * (2 * 1024 * 1024)), 413)
        assert not edge.vectors.training.headers


async def test_pages(edge: Edge) -> None:
    ids = [edge.vectors.training.put(b"x") for _ in range(5)]
    whole = (await edge.http.get(FILES)).json()
    assert whole["object"] == "list"
    assert [item["id"] for item in whole["data"]] == ids[::-1]
    assert (whole["first_id"], whole["last_id"]) == (ids[4], ids[0])
    assert whole["has_more"] is False
    assert edge.vectors.training.requests[-1].page_size == 10_000
    page = (await edge.http.get(f"{FILES}?limit=2&after={ids[3]}")).json()
    assert [item["id"] for item in page["data"]] == [ids[2], ids[1]]
    assert page["has_more"] is True
    page = (await edge.http.get(f"{FILES}?limit=2&order=asc&after={ids[3]}")).json()
    assert [item["id"] for item in page["data"]] == [ids[4]]
    empty = (await edge.http.get(f"{FILES}?purpose=batch")).json()
    assert empty == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("purpose=tune", "purpose"),
        ("after=file-none", "after"),
    ],
)
async def test_bad_queries(edge: Edge, query: str, param: str) -> None:
    assert error_of(await edge.http.get(f"{FILES}?{query}"))["param"] == param


async def test_deleting(edge: Edge) -> None:
    file_id = edge.vectors.training.put(b"x")
    edge.vectors.training.in_use.add(f"files/{file_id}")
    error_of(await edge.http.delete(f"{FILES}/{file_id}"), 400)
    edge.vectors.training.in_use.clear()
    # An SDK says that its empty body is JSON.
    headers = {"content-type": "application/json"}
    gone = await edge.http.delete(f"{FILES}/{file_id}", headers=headers)
    assert gone.json() == {"id": file_id, "object": "file", "deleted": True}


@pytest.mark.parametrize("file_id", ["file-none", "x", "%00", "a%20b", "%F0%9F%A6%8A", "a" * 3000])
async def test_unknown_files(edge: Edge, file_id: str) -> None:
    for answer in (
        await edge.http.get(f"{FILES}/{file_id}"),
        await edge.http.delete(f"{FILES}/{file_id}"),
        await edge.http.get(f"{FILES}/{file_id}/content"),
    ):
        error = error_of(answer, 404)
        assert (error["param"], error["code"]) == ("id", None)
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith("No such File object: ")
        assert len(error["message"]) < 100


@pytest.mark.parametrize("path", [f"{FILES}/", f"{FILES}/a%2Fb", f"{FILES}/a/other", f"{FILES}//"])
async def test_paths_that_are_nothing(edge: Edge, path: str) -> None:
    assert error_of(await edge.http.get(path), 404)["code"] == "unknown_url"


async def test_content(edge: Edge) -> None:
    data = b"<script>" * PIECE
    file_id = edge.vectors.training.put(data, "a b.html")
    answer = await edge.http.get(
        f"{FILES}/{file_id}/content", headers={"accept": "application/binary"}
    )
    assert answer.content == data
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    sent = edge.vectors.training.sent
    head = await edge.http.head(f"{FILES}/{file_id}/content")
    assert head.headers["content-length"] == str(len(data))
    assert head.content == b""
    assert edge.vectors.training.sent == sent


async def test_content_that_fails_at_once(edge: Edge) -> None:
    file_id = edge.vectors.training.put(b"x", "fails-INTERNAL")
    error_of(await edge.http.get(f"{FILES}/{file_id}/content"), 500)
    file_id = edge.vectors.training.put(b"x", "fails-NOT_FOUND-name")  # deleted just now
    assert error_of(await edge.http.get(f"{FILES}/{file_id}/content"), 404)["param"] == "id"


@pytest.mark.parametrize("filename", ["breaks", "short", "long"])
async def test_content_that_is_not_what_it_should_be_is_cut_off(edge: Edge, filename: str) -> None:
    file_id = edge.vectors.training.put(b"x" * (4 * PIECE), filename)
    with pytest.raises(httpx.RemoteProtocolError):
        await edge.http.get(f"{FILES}/{file_id}/content")
    await edge.backend.until(lambda: edge.vectors.training.live == 0)


@pytest.mark.parametrize(("filename", "status"), [("breaks", 500), ("short", 503), ("long", 503)])
async def test_small_content_that_fails_has_a_status(
    edge: Edge, filename: str, status: int
) -> None:
    file_id = edge.vectors.training.put(b"xx", filename)
    error_of(await edge.http.get(f"{FILES}/{file_id}/content"), status)


async def test_nothing_where_something_should_be(edge: Edge) -> None:
    file_id = edge.vectors.training.put(b"", "short")
    edge.vectors.training.files[f"files/{file_id}"].size_bytes = 5
    peer = edge.vectors.training
    peer.files[f"files/{file_id}"].filename = "a.txt"  # an empty stream
    error_of(await edge.http.get(f"{FILES}/{file_id}/content"), 503)


async def test_a_reader_that_leaves_ends_the_download(edge: Edge) -> None:
    peer = edge.vectors.training
    file_id = peer.put(b"x", "endless")
    peer.files[f"files/{file_id}"].size_bytes = 2**40
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(
        f"GET {FILES}/{file_id}/content HTTP/1.1\r\nHost: edge\r\n"
        "Authorization: Bearer sk-test\r\n\r\n".encode()
    )
    assert b"200 OK" in await read_head(reader)
    await reader.readexactly(1024)
    assert peer.live == 1
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)


class TestSlowReaders:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"slow_reader_s": 0.3}

    async def test_a_reader_that_stalls_is_given_up(self, edge: Edge) -> None:
        peer = edge.vectors.training
        file_id = peer.put(b"x", "endless")
        peer.files[f"files/{file_id}"].size_bytes = 2**40
        reader, writer = await asyncio.open_connection(edge.host, edge.port, limit=1024)
        writer.write(
            f"GET {FILES}/{file_id}/content HTTP/1.1\r\nHost: edge\r\n"
            "Authorization: Bearer sk-test\r\n\r\n".encode()
        )
        assert b"200 OK" in await read_head(reader)
        await edge.backend.until(lambda: peer.live == 0, 20)
        assert peer.sent < 2**28  # what nobody reads is not fetched
        writer.close()


async def test_a_sender_that_leaves_before_the_end_leaves_nothing(edge: Edge) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield part("purpose", b"batch") + b'--b\r\nContent-Disposition: form-data; name="file"; '
        yield b'filename="a"\r\n\r\nsome'
        raise ConnectionError

    headers = {"content-type": "multipart/form-data; boundary=b"}
    with pytest.raises(ConnectionError):
        await edge.http.post(FILES, content=pieces(), headers=headers)
    assert (await upload(edge)).status_code == 200
    assert len(edge.vectors.training.headers) == 1


async def test_a_sender_that_leaves_while_the_file_is_stored_ends_that(edge: Edge) -> None:
    peer = edge.vectors.training
    body = part("purpose", b"batch") + part("file", b"x", "stalls") + b"--b--\r\n"
    _, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(
        f"POST {FILES} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer sk-test\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
        "".encode()
        + body
    )
    await edge.backend.until(lambda: peer.live == 1)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)


async def test_methods_and_credentials(edge: Edge) -> None:
    paths: dict[str, set[str]] = {
        FILES: {"GET", "POST"},
        f"{FILES}/file-1": {"GET", "DELETE"},
        f"{FILES}/file-1/content": {"GET"},
    }
    for path, allowed in paths.items():
        answer = await edge.http.put(path, json={})
        error_of(answer, 405)
        assert {word.strip() for word in answer.headers["allow"].split(",")} - {"HEAD"} == allowed
        async with httpx.AsyncClient(base_url=edge.http.base_url) as stranger:
            error_of(await stranger.get(path), 401)


async def test_openapi_describes_files(edge: Edge) -> None:
    document: dict[str, Any] = (await edge.http.get("/openapi.json")).json()
    body = document["paths"][FILES]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data"}
    assert set(document["components"]["schemas"]["FileForm"]["required"]) == {"purpose", "file"}
    answer = document["paths"][f"{FILES}/{{file_id}}/content"]["get"]["responses"]["200"]
    assert set(answer["content"]) == {"application/octet-stream"}

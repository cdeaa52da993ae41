"""What comes over the wire and is not quite HTTP: the edge's own guard against it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.protocol import Protocol
from tests.integration.gateway.conftest import TOKEN, Edge

AUTH = f"Authorization: Bearer {TOKEN}\r\n".encode()
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: edge\r\n" + AUTH + b"\r\n"


@asynccontextmanager
async def connection(
    edge: Edge,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def sent(edge: Edge, data: bytes) -> bytes:
    """Sends bytes and returns all that comes until the edge closes the connection."""
    async with connection(edge) as (reader, writer):
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)


def last(data: bytes) -> bytes:
    """The same request, after which the connection is closed."""
    return data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"GET  \x00 HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nBad Header: b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 3x\r\n\r\nabc",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_refused(edge: Edge, data: bytes) -> None:
    answer = await sent(edge, data)
    assert statuses(answer) == [400]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: +4\r\n",
        b"Content-Length: 0x4\r\n",
        b"Content-Length: 4, 4\r\n",
    ],
)
async def test_nothing_is_smuggled_behind_a_doubtful_length(edge: Edge, framing: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: edge\r\n" + AUTH + b"\r\n"
    doubtful = b"POST /v1/chat/completions HTTP/1.1\r\nHost: edge\r\n" + AUTH + framing
    answer = await sent(edge, doubtful + b"\r\n" + smuggled)
    # One refusal, whoever reads the length how: nothing behind it is taken for a request.
    assert len(statuses(answer)) == 1
    assert statuses(answer)[0] in {400, 501}
    assert b'"openapi"' not in answer


@pytest.mark.parametrize(
    "padding",
    [
        b"X-Long: " + b"a" * Protocol.most_head_bytes + b"\r\n",
        b"".join(b"X-%d: b\r\n" % number for number in range(9000)),
        b"X-Endless: " + b"a" * (4 * Protocol.most_head_bytes),  # never ends
        b"a" * (2 * Protocol.most_head_bytes),  # the name of a header that never ends
    ],
)
async def test_large_heads_are_refused(edge: Edge, padding: bytes) -> None:
    answer = await sent(edge, b"GET /v1/models HTTP/1.1\r\nHost: edge\r\n" + padding)
    assert statuses(answer) == [431]
    assert (
        str(Protocol.most_head_bytes)
        in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    )


async def test_a_long_target_is_a_large_head(edge: Edge) -> None:
    answer = await sent(edge, b"GET /" + b"a" * (2 * Protocol.most_head_bytes))
    assert statuses(answer) == [431]


async def test_heads_within_the_limit_pass(edge: Edge) -> None:
    padding = b"X-Long: " + b"a" * (Protocol.most_head_bytes // 2) + b"\r\n"
    answer = await sent(edge, last(MODELS.replace(b"Host", padding + b"Host")))
    assert statuses(answer) == [200]


@pytest.mark.parametrize("begun", [b"", b"GET /v1/mod", MODELS[:-2] + b"X-Slow: "])
async def test_slow_heads_are_given_up(
    edge: Edge, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "head_timeout_s", 0.2)
    answer = await sent(edge, begun)
    assert statuses(answer) == ([408] if begun else [])


async def test_a_connection_serves_on_after_a_pause(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "head_timeout_s", 0.2)
    async with connection(edge) as (reader, writer):
        for _ in range(2):
            writer.write(MODELS)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
            assert statuses(head) == [200]
            length = next(
                int(line[15:])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
            await asyncio.sleep(0.5)  # longer than a head may take: nothing was begun


async def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    missing = MODELS.replace(b"/v1/models", b"/v1/models/missing")
    answers = await sent(edge, MODELS + missing + last(MODELS))
    assert statuses(answers) == [200, 404, 200]


@pytest.mark.parametrize(
    "path",
    [
        b"//v1/models",
        b"/v1//models",
        b"/v1/./models",
        b"/x/../v1/models",
        b"/x/%2e%2e/v1/models",
        b"/v1%2fmodels",
        b"/V1/models",
        b"/v1/models;a=b",
        b"/v1/models%00",
        b"/v1/models%0d%0aX: y".replace(b" ", b"%20"),
        b"/api/v1/ai/../../../v1/models",
        b"/health/../v1/models",
        b"/v1/models/..%2f..%2fhealth",
    ],
)
async def test_paths_are_taken_as_they_are(edge: Edge, path: bytes) -> None:
    """A path that another server would read as a route's is none here, with or without a key."""
    for head in (b"", AUTH):
        request = b"GET " + path + b" HTTP/1.1\r\nHost: edge\r\n" + head + b"Connection: close\r\n"
        answer = await sent(edge, request + b"\r\n")
        assert statuses(answer) in ([404], [401]), path
        assert b'"object":"list"' not in answer
        assert b"\r\nX: y" not in answer

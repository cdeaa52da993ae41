"""How LLM for Unity reads answers, from a raw socket: the parsing rules of its versions 2 and 3."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Connection:
    """A request that was sent, whose head was read."""

    reader: asyncio.StreamReader
    status: int
    headers: dict[str, str]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body as it comes: each HTTP chunk by itself."""
        if self.headers.get("transfer-encoding") != "chunked":
            yield await self.reader.readexactly(int(self.headers["content-length"]))
            return
        while size := int(await self.reader.readline(), 16):
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            yield data

    async def body(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks()])


@asynccontextmanager
async def asked(
    host: str, port: int, path: str, body: Any, method: str = "POST", token: str = "my-token"
) -> AsyncIterator[Connection]:
    """Asks as Unity's HTTP client does."""
    data = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: edge\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
        f"Cache-Control: no-cache\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    try:
        async with asyncio.timeout(60):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        yield Connection(reader, int(status.split()[1]), headers)
    finally:
        writer.close()


def unity_2(body: bytes) -> list[dict[str, Any]]:
    """Version 2 joins what stands between the marks `data: ` of a whole body into one array."""
    text = body.decode().strip()
    if not text.startswith("data: "):
        return [json.loads(text)]
    parts = [part for part in text.replace("\n\n", "").split("data: ") if part]
    return json.loads("[" + ",\n".join(parts) + "]")


def unity_3(chunk: bytes) -> dict[str, Any]:
    """Version 3 takes every piece that it receives for one frame."""
    return json.loads(chunk.decode().strip().removeprefix("data: "))


def said(parts: list[dict[str, Any]]) -> str:
    """What either shows: the joined contents, trimmed."""
    return "".join(part["content"] for part in parts).strip()

"""The load generator process: does one job after another, in answer to lines of JSON.

python -m benchmarks.edge.load
"""

import asyncio
import json
import socket
import sys
import time
from typing import Any

import uvloop

from benchmarks.edge.connections import (
    RefusedError,
    StreamClient,
    Tally,
    UnaryClient,
    connect,
    stall,
)
from benchmarks.edge.pacing import Pace
from benchmarks.edge.requests import stream_request, unary_request
from benchmarks.processes import cpu_seconds, raise_file_limit

_OPENED_AT_ONCE = 64
_FIRST_EVENT_S = 20.0
_PROBE_PAUSE_S = 0.013
"""Between two probes: no multiple of an engine step."""


class Load:
    """What is open now."""

    def __init__(self) -> None:
        self._clients: list[StreamClient] = []
        self._stalled: list[socket.socket] = []
        self._tally = Tally()

    async def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Does a job."""
        name = job.pop("job")
        if name == "stream":
            return await self.stream(**job)
        if name == "unary":
            return await self.unary(**job)
        if name == "open":
            return await self.open(**job)
        return await self.leave(**job)

    async def stream(
        self,
        address: str,
        form: str,
        pace: str,
        streams: int,
        pids: dict[str, int],
        settle_s: float,
        window_s: float,
        probes: int,
    ) -> dict[str, Any]:
        """Opens streams, measures for a while, then times the first events of some more."""
        request = stream_request(form, Pace(pace))
        try:
            await self._open(address, [request] * streams, wait=True)
            await asyncio.sleep(settle_s)
            before = _sample(pids, self._tally.events)
            await asyncio.sleep(window_s)
            after = _sample(pids, self._tally.events)
            lost = self._tally.lost
            firsts = [await self._probe(address, request) for _ in range(probes)]
        finally:
            await self.leave()
        return _difference(before, after) | {"firsts": firsts, "lost": lost}

    async def unary(
        self,
        address: str,
        form: str,
        connections: int,
        pids: dict[str, int],
        settle_s: float,
        window_s: float,
    ) -> dict[str, Any]:
        """Keeps connections busy with calls, and measures for a while."""
        clients = [UnaryClient(unary_request(form)) for _ in range(connections)]
        try:
            await asyncio.gather(*(connect(address, client) for client in clients))
            await asyncio.sleep(settle_s)
            before = _sample(pids, sum(client.answers for client in clients))
            await asyncio.sleep(window_s)
            after = _sample(pids, sum(client.answers for client in clients))
        finally:
            for client in clients:
                client.leave()
        refusal = next((client.refusal for client in clients if client.refusal), "")
        if refusal:
            raise RefusedError(refusal)
        return _difference(before, after) | {"firsts": [], "lost": 0}

    async def open(
        self, address: str, form: str, pace: str, tags: list[str], *, reads: bool = True
    ) -> dict[str, Any]:
        """Opens a stream per tag and leaves it open, or even unread."""
        requests = [stream_request(form, Pace(pace), tag) for tag in tags]
        if reads:
            await self._open(address, requests, wait=Pace(pace) is not Pace.SILENT)
        else:
            self._stalled = [await stall(address, request) for request in requests]
        return {}

    async def leave(self, spread_s: float = 0.0) -> dict[str, Any]:
        """Closes what is open, one after the other; tells when each was closed."""
        for sock in self._stalled:
            sock.close()
        self._stalled.clear()
        clients, self._clients = self._clients, []
        times: list[float] = []
        for client in clients:
            times.append(time.monotonic())
            client.leave()
            if spread_s:
                await asyncio.sleep(spread_s)
        return {"times": times}

    async def _open(self, address: str, requests: list[bytes], *, wait: bool) -> None:
        self._tally = Tally()
        for start in range(0, len(requests), _OPENED_AT_ONCE):
            batch = [
                StreamClient(request, self._tally)
                for request in requests[start : start + _OPENED_AT_ONCE]
            ]
            await asyncio.gather(*(connect(address, client) for client in batch))
            self._clients += batch
            if wait:
                async with asyncio.timeout(_FIRST_EVENT_S):
                    await asyncio.gather(*(client.first for client in batch))

    async def _probe(self, address: str, request: bytes) -> float:
        client = StreamClient(request, Tally())
        try:
            await connect(address, client)
            return await asyncio.wait_for(client.first, _FIRST_EVENT_S)
        finally:
            client.leave()
            await asyncio.sleep(_PROBE_PAUSE_S)


def _sample(pids: dict[str, int], count: int) -> dict[str, float]:
    clocks = {name: cpu_seconds(pid) for name, pid in pids.items()}
    return clocks | {"seconds": time.perf_counter(), "count": count}


def _difference(before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    return {name: after[name] - before[name] for name in after}


async def main() -> None:
    """Works until stdin ends."""
    raise_file_limit()
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    load = Load()
    print(json.dumps({"ready": True}), flush=True)
    while line := await reader.readline():
        try:
            answer = await load.do(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

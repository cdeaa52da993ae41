"""What must hold at any cost: departures are noticed at once, stalled readers take no memory."""

import asyncio
from dataclasses import dataclass
from typing import Any

from benchmarks.edge.contestants import Contestant
from benchmarks.edge.pacing import Pace
from benchmarks.edge.quantiles import quantile
from benchmarks.processes import Child, cpu_seconds, resident_bytes

CANCEL_LIMIT_MS = 10.0
GROWTH_LIMIT_MB = 16.0

_DEPARTURES = 50
_SPREAD_S = 0.007
_READERS = 32
_STEPS = 40
_STEP_S = 0.1
_LONGEST_STALL = 250
"""Steps within which kernel buffers must have filled, so that tokens come to a standstill."""
_IDLE_STEPS = 20
_IDLE_CORES = 0.05
_JOB_S = 60.0
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Gate:
    """One gate and how it went."""

    name: str
    value: float
    limit: float
    unit: str
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is below its limit."""
        return self.value < self.limit


async def check_gates(load: Child, engine: Child, edge: Contestant, rounds: int) -> list[Gate]:
    """Measures every gate of an edge."""
    gates: list[Gate] = []
    for pace, what in ((Pace.PACED, "streaming"), (Pace.SILENT, "silent prefill")):
        delays: list[float] = []
        for number in range(rounds):
            delays += await _departures(load, engine, edge, pace, f"{pace}-{number}")
        p50, p99 = (quantile(delays, share) * 1e3 for share in (0.5, 0.99))
        detail = f"p50 {p50:.1f} ms, {len(delays)} departures"
        gates.append(Gate(f"cancel, {what}, p99", p99, CANCEL_LIMIT_MS, "ms", detail))
    gates.append(await _stalled(load, engine, edge))
    return gates


async def _departures(
    load: Child, engine: Child, edge: Contestant, pace: Pace, name: str
) -> list[float]:
    """Times from a client's departure to the engine's seeing it."""
    tags = [f"{name}-{number}" for number in range(_DEPARTURES)]
    await load.ask(edge.job("open", pace=pace, tags=tags), _JOB_S)
    await _until_running(engine, _DEPARTURES)
    left = await load.ask({"job": "leave", "spread_s": _SPREAD_S}, _JOB_S)
    state = await _until_running(engine, 0)
    seen = state["cancels"]
    return [seen[tag] - time for tag, time in zip(tags, left["times"], strict=True) if tag in seen]


async def _stalled(load: Child, engine: Child, edge: Contestant) -> Gate:
    """Growth of an edge while clients ask for a flood and read nothing."""
    tags = [""] * _READERS
    await load.ask(edge.job("open", pace=Pace.FLOOD, tags=tags), _JOB_S)
    await asyncio.sleep(_STEPS * _STEP_S / 4)
    await load.ask({"job": "leave"}, _JOB_S)
    await _until_running(engine, 0)
    before, engine_before = resident_bytes(edge.pid), resident_bytes(engine.pid)
    await load.ask(edge.job("open", pace=Pace.FLOOD, tags=tags, reads=False), _JOB_S)
    most = engine_most = idle = 0
    for _ in range(_LONGEST_STALL):
        busy = cpu_seconds(edge.pid)
        await asyncio.sleep(_STEP_S)
        busy = cpu_seconds(edge.pid) - busy
        most = max(most, resident_bytes(edge.pid))
        engine_most = max(engine_most, resident_bytes(engine.pid))
        idle = idle + 1 if busy < _STEP_S * _IDLE_CORES else 0
        if idle == _IDLE_STEPS:
            break
    state = await engine.ask({}, _JOB_S)
    await load.ask({"job": "leave"}, _JOB_S)
    await _until_running(engine, 0)
    growth = max(0, most - before) / _MEBIBYTE
    engine_growth = max(0, engine_most - engine_before) / _MEBIBYTE
    stalled = "all at a standstill" if idle == _IDLE_STEPS else "tokens still ran"
    running = f"{state['running']} of {_READERS} streams open"
    detail = f"{stalled}, {running}; the engine grew {engine_growth:.1f} MiB"
    return Gate(f"memory, {_READERS} stalled readers", growth, GROWTH_LIMIT_MB, "MiB", detail)


async def _until_running(engine: Child, count: int) -> dict[str, Any]:
    """Waits until the engine runs so many requests; gives up after a while."""
    state: dict[str, Any] = {}
    for _ in range(_STEPS):
        state = await engine.ask({}, _JOB_S)
        if state["running"] == count:
            break
        await asyncio.sleep(_STEP_S)
    return state

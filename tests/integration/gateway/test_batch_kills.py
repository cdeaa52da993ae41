"""Edges and the service of batches are killed at any moment: every request has one result."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.gateway.batch_stack import (
    TOKENS,
    BatchStack,
    SlowBackend,
    batch_stack,
    check_whole,
    key_feed,
    line,
)
from tests.integration.training.file_platform import SERVICE_TOKEN
from tests.ports import free_port

ROOT = Path(__file__).parents[3]
KILLED = Path(__file__).with_name("killed_process.py")
COUNT = 40
AT_ONCE = 4
pytestmark = pytest.mark.timeout(400)

# Waiting for work is left out: how often one looks depends on the machine.
RUNNING = r"/gateway/(batch_runs|batch_results|batch_answers|inside)\.py:"
MAKING = r"/training/(stores/)?batches\.py:(?!__init__)"
READING = r"/training/batch_lines\.py:"
KEEPING = r"/training/batch_work\.py:(append|_check|_keep|_pieces|_length)"
WRITING = r"/training/batch_keeper\.py:_(finish|write|outputs|errors)"


def launched(
    folder: Path, lines: int, where: str, service: str, port: int, **env: str
) -> subprocess.Popen[bytes]:
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen/python'}",
        "API_TOKENS": ",".join(TOKENS),
        "PENSTOCK_SERVICE_TOKEN": SERVICE_TOKEN,
        **env,
    }
    return subprocess.Popen(
        [
            *(sys.executable, str(KILLED), str(lines), where, service),
            *("--port", str(port), "--data-dir", str(folder)),
        ],
        env=variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def until_killed(child: subprocess.Popen[bytes]) -> None:
    try:
        assert await asyncio.to_thread(child.wait, 120) == -signal.SIGKILL
    finally:
        child.kill()
        child.communicate()


def edge(stack: BatchStack, lines: int) -> subprocess.Popen[bytes]:
    return launched(
        stack.folder,
        lines,
        RUNNING,
        "gateway",
        0,
        PENSTOCK_API_BATCH_CONCURRENCY=str(AT_ONCE),
        PENSTOCK_SERVICES_TRAINING_ADDRESS=stack.service.server.address,
        PENSTOCK_SERVICES_MODEL_ADDRESS=stack.keys.address,
        PENSTOCK_SERVICES_INFERENCE_ADDRESS=stack.backend.address,
    )


async def test_edges_are_killed(tmp_path: Path) -> None:
    async with batch_stack(tmp_path) as stack:
        await stack.start_edge(batch_concurrency=0)
        made = await stack.create([line(number) for number in range(COUNT)])
        await stack.until(made["id"], "in_progress")
        places = [80, 200, 350, 500, 640]
        progress: list[int] = []
        for place in places:
            await until_killed(edge(stack, place))
            await stack.end_leases()
            progress.append((await stack.get(made["id"]))["request_counts"]["completed"])
        assert progress[-1] < COUNT  # else the last were killed for nothing
        assert progress == sorted(progress)
        last = edge(stack, 0)
        try:
            done = await stack.until(made["id"], "completed")
        finally:
            last.kill()
            last.communicate()
        assert done["request_counts"] == {"total": COUNT, "completed": COUNT, "failed": 0}
        check_whole(await stack.lines(done["output_file_id"]), COUNT)
        # What was noted never ran again: at most what an edge had in hand did.
        assert sum(stack.backend.asked.values()) - COUNT <= len(places) * AT_ONCE
        assert progress[-1] > 0


class Service:
    """TrainingService as a process that always comes back to the same port."""

    def __init__(self, folder: Path, keys: str) -> None:
        self.folder = folder
        self.keys = keys
        self.port = free_port()

    def start(self, lines: int = 0, where: str = "") -> subprocess.Popen[bytes]:
        return launched(
            self.folder,
            lines,
            where,
            "services.training",
            self.port,
            PENSTOCK_SERVICES_MODEL_ADDRESS=self.keys,
        )

    def end_chores(self) -> list[tuple[str, int]]:
        """Lets the time of the leases of dead keepers pass; tells where batches stand, and how many
        of their requests have results."""
        with sqlite3.connect(self.folder / "training.db", timeout=30) as database:
            database.execute(
                "UPDATE training_batches SET lease_until = 0 WHERE state != 'in_progress'"
            )
            found = database.execute("SELECT state, completed + failed FROM training_batches")
            standing = found.fetchall()
        database.close()
        return standing


@asynccontextmanager
async def before_a_process(folder: Path) -> AsyncIterator[tuple[BatchStack, Service]]:
    """An edge before a service that is a process."""
    async with AsyncExitStack() as exits:
        backend = SlowBackend()
        await backend.start()
        exits.push_async_callback(backend.stop)
        keys = await exits.enter_async_context(key_feed())
        service = Service(folder, keys.address)

        class There:
            class server:  # noqa: N801 - stands where a server does
                address = f"127.0.0.1:{service.port}"

        stack = BatchStack(folder, backend, keys, There, exits)  # type: ignore[arg-type]
        yield stack, service


async def test_the_service_is_killed(tmp_path: Path) -> None:
    (tmp_path / "admin-key").write_text("admin-token")
    (tmp_path / "admin-key").chmod(0o600)
    async with before_a_process(tmp_path) as (stack, service):
        first = service.start()
        try:
            assert first.stdout is not None
            ready = json.loads(await asyncio.to_thread(first.stdout.readline))
            assert ready["service"] == "training"
            await stack.start_edge(batch_concurrency=0)
            lines = [
                line(number, **({"temperature": "hot"} if number % 4 == 0 else {}))
                for number in range(COUNT)
            ]
            file_id = await stack.upload(lines)
        finally:
            first.kill()
            first.communicate()
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        headers = {"Idempotency-Key": "the-only-one"}
        seen: list[tuple[str, int]] = []

        async def killed(where: str, *places: int) -> None:
            for place in places:
                dying = asyncio.create_task(until_killed(service.start(place, where)))
                while not dying.done() and not seen:
                    answer = await stack.http.post("/v1/batches", json=body, headers=headers)
                    assert answer.status_code in (200, 503), answer.text
                    await asyncio.sleep(0.2)
                await dying
                seen.extend(service.end_chores())

        await killed(MAKING, 10, 40)
        await killed(READING, 300, 1500)
        assert any(state == "validating" for state, _ in seen), seen
        await stack.start_edge(batch_concurrency=AT_ONCE)
        await killed(KEEPING, 60, 150)
        assert 0 < seen[-1][1] < COUNT, seen
        await killed(WRITING, 5, 15)
        assert seen[-1][1] == COUNT, seen
        last = service.start()
        try:
            async with asyncio.timeout(150):
                while True:
                    made = await stack.http.post("/v1/batches", json=body, headers=headers)
                    if made.status_code == 200 and made.json()["status"] == "completed":
                        break
                    await asyncio.sleep(0.2)
            done = made.json()
            failing = COUNT // 4
            assert done["request_counts"] == {
                "total": COUNT,
                "completed": COUNT - failing,
                "failed": failing,
            }
            good = await stack.lines(done["output_file_id"])
            bad = await stack.lines(done["error_file_id"])
            ids = sorted(one["custom_id"] for one in [*good, *bad])
            assert ids == sorted(f"c-{number}" for number in range(COUNT))
            assert all(one["response"]["status_code"] == 200 for one in good)
            assert all(one["response"]["status_code"] == 400 for one in bad)
            listed = (await stack.http.get("/v1/batches")).json()["data"]
            assert [one["id"] for one in listed] == [done["id"]]
            files = (await stack.http.get("/v1/files")).json()["data"]
            assert len(files) == 3
        finally:
            last.kill()
            last.communicate()

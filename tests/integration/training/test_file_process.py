"""TrainingService as a process: what it takes of memory, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from penstock.training.v1 import training_service_pb2 as pb
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub

from services.blobs import open_blobs
from services.rpc.transport import channel_options
from services.training.clock import utc_now
from services.training.files import FileLimits, Files
from services.training.stores import open_store
from tests.integration.training.file_platform import ADMIN, header, upload

MIB = 1024 * 1024


class Process:
    """A running service, and a stub for it."""

    def __init__(self, child: subprocess.Popen[bytes], stub: TrainingServiceStub) -> None:
        self.child = child
        self.stub = stub

    def most_memory(self) -> int:
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    async def seen(self) -> list[str]:
        found = await self.stub.ListFiles(pb.ListFilesRequest(), metadata=ADMIN)
        return [file.name for file in found.files]

    async def ended(self, number: int) -> int:
        self.child.send_signal(number)
        return await asyncio.to_thread(self.child.wait, 60)


def _started(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "services.training"),
            *("--port", "0", "--data-dir", str(folder)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Process]:
    (folder / "admin-key").write_text("admin-token")
    (folder / "admin-key").chmod(0o600)
    child = _started(folder)
    try:
        assert child.stdout is not None
        line = json.loads(await asyncio.to_thread(child.stdout.readline))
        assert line["service"] == "training"
        options = channel_options()
        async with grpc.aio.insecure_channel(line["address"], options=options) as channel:
            yield Process(child, TrainingServiceStub(channel))
    finally:
        child.kill()
        child.communicate()


def on_disk(folder: Path) -> list[Path]:
    return [path for path in (folder / "blobs").rglob("*") if path.is_file()]


async def test_memory_does_not_follow_the_size_of_files(tmp_path: Path) -> None:
    piece = os.urandom(MIB)
    hash = hashlib.sha256()
    for _ in range(64):
        hash.update(piece)
    async with running(tmp_path) as process:
        small = await process.stub.UploadFile(upload([piece] * 2), metadata=ADMIN)
        request = pb.DownloadFileRequest(name=small.name)
        assert [part async for part in process.stub.DownloadFile(request, metadata=ADMIN)]
        before = process.most_memory()
        file = await process.stub.UploadFile(upload([piece] * 64), metadata=ADMIN)
        assert (file.size_bytes, file.sha256) == (64 * MIB, hash.hexdigest())
        got = hashlib.sha256()
        request = pb.DownloadFileRequest(name=file.name)
        async for part in process.stub.DownloadFile(request, metadata=ADMIN):
            got.update(part.data)
        assert got.digest() == hash.digest()
        assert process.most_memory() - before < 32 * MIB
        assert await process.ended(signal.SIGTERM) == 0


async def test_a_kill_amid_an_upload_leaves_nothing_to_be_seen(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[pb.UploadFileRequest]:
        yield header(request_id="r")
        while True:
            yield pb.UploadFileRequest(chunk=b"half" * 1000)
            begun.set()
            await asyncio.sleep(0.001)

    async with running(tmp_path) as process:
        kept = await process.stub.UploadFile(upload([b"whole"]), metadata=ADMIN)
        call = process.stub.UploadFile(endless(), metadata=ADMIN)
        await begun.wait()
        for _ in range(3000):
            if len(on_disk(tmp_path)) == 2:
                break
            await asyncio.sleep(0.01)
        await process.ended(signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    assert len(on_disk(tmp_path)) == 2
    async with running(tmp_path) as process:
        assert await process.seen() == [kept.name]
        # The caller may send the same again at once.
        again = await process.stub.UploadFile(upload([b"all"], request_id="r"), metadata=ADMIN)
        assert set(await process.seen()) == {kept.name, again.name}
        assert await process.ended(signal.SIGTERM) == 0
    await _sweep_later(tmp_path)
    assert {path.name for path in on_disk(tmp_path)} == {
        name.removeprefix("files/") for name in (kept.name, again.name)
    }


async def test_kills_at_any_moment_leave_files_whole_or_unseen(tmp_path: Path) -> None:
    content = os.urandom(300_000)
    for delay_s in (0.0, 0.02, 0.05, 0.1):
        async with running(tmp_path) as process:
            await process.seen()

            async def fill(process: Process = process) -> None:
                while True:
                    file = await process.stub.UploadFile(upload([content] * 3), metadata=ADMIN)
                    request = pb.DeleteFileRequest(name=file.name)
                    if file.name[-1].islower():
                        await process.stub.DeleteFile(request, metadata=ADMIN)

            filling = [asyncio.create_task(fill()) for _ in range(3)]
            await asyncio.sleep(delay_s)
            await process.ended(signal.SIGKILL)
            results = await asyncio.gather(*filling, return_exceptions=True)
            assert all(isinstance(result, grpc.aio.AioRpcError) for result in results)
    async with running(tmp_path) as process:
        for name in (seen := await process.seen()):
            request = pb.DownloadFileRequest(name=name)
            parts = [part.data async for part in process.stub.DownloadFile(request, metadata=ADMIN)]
            assert b"".join(parts) == content * 3
        assert await process.ended(signal.SIGTERM) == 0
    await _sweep_later(tmp_path)
    assert {path.name for path in on_disk(tmp_path)} == {
        name.removeprefix("files/") for name in seen
    }


async def _sweep_later(folder: Path) -> None:
    """Sweeps as the service does a quarter of an hour later."""

    def later() -> datetime:
        return utc_now() + timedelta(minutes=15)

    store = await open_store(f"sqlite:///{folder}/training.db", clock=later)
    blobs = open_blobs(folder / "blobs")
    files = Files(store.files, blobs, FileLimits(), clock=later)
    await files.sweep()
    await files.close()
    await blobs.close()
    await store.close()

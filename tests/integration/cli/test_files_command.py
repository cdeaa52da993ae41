"""`penstock files`, against the service itself, and against one that misbehaves."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.api import httpbody_pb2
from penstock.training.v1 import file_pb2, training_service_pb2_grpc

from services.cli.main import main
from tests.integration.cli.conftest import ENVIRONMENT
from tests.integration.cli.terminal import Terminal

KEY = "admin-key-of-the-tests"
LINES = b'{"messages":[]}\n' * 100


@dataclass
class Files:
    """A way to run the command."""

    address: str

    def options(self, key: str = KEY) -> list[str]:
        return ["--training-address", self.address, "--api-key", key]

    def __call__(self, *words: str, key: str = KEY, status: int = 0) -> Result:
        everything = ["files", *words, *self.options(key)]
        result = CliRunner().invoke(main, everything, env=ENVIRONMENT)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").stdout)

    def upload(self, path: Path, *words: str) -> str:
        return self.json("upload", str(path), *words)["name"].removeprefix("files/")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of TrainingService."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "admin-key").write_text(KEY)
    (folder / "admin-key").chmod(0o600)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    environment |= {
        "API_TOKENS": "user-key",
        "PENSTOCK_SERVICES_TRAINING_MAX_FILE_BYTES": "5000000",
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "services.training"),
            *("--port", "0", "--data-dir", str(folder)),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    assert process.stdout is not None
    with process:
        yield json.loads(process.stdout.readline())["address"]
        process.kill()


@pytest.fixture
def files(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """The command in an empty folder; the service has no files."""
    monkeypatch.chdir(tmp_path)
    yield (command := Files(service))
    for file in command.json("list"):
        command("remove", file["name"], "--yes")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(LINES)
    return path


def test_a_file_goes_there_and_back(files: Files, lines: Path, tmp_path: Path) -> None:
    result = files("upload", str(lines))
    file_id, _, said = result.stdout.partition(" ")
    assert said.strip() == "lines.jsonl, 1.6 KiB, for fine-tune"
    shown = files("get", file_id).stdout
    for fact in ("lines.jsonl", "fine-tune", "1.6 KiB (1,600 bytes)", "application/jsonl"):
        assert fact in shown
    assert hashlib.sha256(LINES).hexdigest() in shown
    (row,) = files("list").stdout.splitlines()[1:]
    assert row.split()[:3] == [file_id, "lines.jsonl", "fine-tune"]
    said = files("download", file_id, "-o", "back.jsonl").stdout
    assert said == "back.jsonl, 1.6 KiB\n"
    assert (tmp_path / "back.jsonl").read_bytes() == LINES
    assert files("remove", f"files/{file_id}", "--yes").stdout == "1 is removed.\n"
    assert "no file" in files("get", file_id, status=1).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.jsonl", "lines.jsonl"]


def test_json(files: Files, lines: Path) -> None:
    made = files.json(
        "upload", str(lines), "--purpose", "batch", "--name", "other.jsonl", "--expires", "2d"
    )
    assert made["filename"] == "other.jsonl"
    assert made["purpose"] == "FILE_PURPOSE_BATCH"
    assert made["size_bytes"] == "1600"
    assert made["expire_time"] > made["create_time"]
    assert files.json("get", made["name"]) == made
    assert files.json("list") == [made]
    got = files.json("download", made["name"])
    assert got == made | {"path": "other.jsonl"}
    assert Path("other.jsonl").read_bytes() == LINES
    assert files.json("remove", made["name"]) == {"removed_count": 1, "missing_count": 0}


@pytest.mark.parametrize("size", [0, 1, 512 * 1024, 3_000_001])
def test_sizes(files: Files, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "data.bin").write_bytes(data)
    file_id = files.upload(tmp_path / "data.bin", "--purpose", "user_data")
    files("download", file_id, "-o", "back")
    assert (tmp_path / "back").read_bytes() == data


def test_standard_output(files: Files, lines: Path) -> None:
    result = files("download", files.upload(lines), "-o", "-")
    assert result.stdout_bytes == LINES
    error = files("download", "file-x", "-o", "-", "--json", status=2).stderr
    assert "can't be both" in error


def test_a_file_from_a_pipe(files: Files, lines: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, LINES)
    os.close(writer)
    made = files.json("upload", f"/dev/fd/{reader}", "--name", "piped.jsonl")
    os.close(reader)
    assert (made["filename"], made["size_bytes"]) == ("piped.jsonl", "1600")


def test_lists(files: Files, lines: Path) -> None:
    ids = [files.upload(lines, "--purpose", purpose) for purpose in ("batch", "evals", "batch")]
    listed = [file["name"].removeprefix("files/") for file in files.json("list")]
    assert listed == ids[::-1]
    (row,) = files("list", "-p", "evals").stdout.splitlines()[1:]
    assert row.startswith(ids[1])
    result = files("list", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert "--limit 20 shows them" in result.stderr


def test_nothing_is_there(files: Files) -> None:
    assert "No files." in files("list").stderr
    assert files.json("list") == []


def test_removing_several(files: Files, lines: Path) -> None:
    ids = [files.upload(lines) for _ in range(2)]
    gone = "file-" + "a" * 24
    result = files("remove", *ids, gone, "--yes", status=1)
    assert result.stdout == "2 are removed, 1 was not there.\n"
    assert files("remove", gone, status=1).stderr.startswith("Remove file-")  # asks, hears nothing


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("upload", "missing.jsonl"), 2, "does not exist"),
        (("upload", "."), 2, "is a directory"),
        (("upload", "lines.jsonl", "--purpose", "search"), 2, "fine-tune"),
        (("upload", "lines.jsonl", "--purpose", "fine-tune-results"), 2, "user_data"),
        (("upload", "lines.jsonl", "--expires", "soon"), 2, "12h or 30d"),
        (("upload", "lines.jsonl", "--expires", "31d"), 1, "time_to_live"),
        (("upload", "lines.jsonl", "--name", "a/b"), 1, "header.filename"),
        (("upload", "large.bin"), 1, "5,000,000 bytes"),
        (("get", "file-none"), 1, "There is no file"),
        (("download", "file-none"), 1, "There is no file"),
        (("download", "ID", "-o", "nowhere/a"), 2, "mkdir -p nowhere"),
        (("download", "ID", "-o", "."), 2, "is a folder"),
        (("download", "ID"), 2, "--force overwrites it"),
        (("download", "ID", "-o", "lines.jsonl"), 2, "--force overwrites it"),
        (("list", "--purpose", "x"), 2, "batch_output"),
    ],
)
def test_errors(
    files: Files, lines: Path, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(5_000_001))
    file_id = files.upload(lines)
    result = files(*(file_id if word == "ID" else word for word in words), status=status)
    assert said in result.stderr, result.stderr
    assert not result.stdout
    assert lines.read_bytes() == LINES
    assert len(files.json("list")) == 1


def test_force(files: Files, lines: Path) -> None:
    file_id = files.upload(lines)
    lines.write_text("older")
    files("download", file_id, "--force")
    assert lines.read_bytes() == LINES


def test_whose_files(files: Files, lines: Path) -> None:
    file_id = files.upload(lines)
    assert "There is no file" in files("get", file_id, key="user-key", status=1).stderr
    assert "--api-key" in files("list", key="wrong", status=1).stderr


def test_no_service(files: Files) -> None:
    error = Files("127.0.0.1:1")("list", status=1).stderr
    assert "Can't reach the training service at 127.0.0.1:1." in error
    assert "--training-address" in error


def test_a_terminal_shows_progress(files: Files, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(4_000_000))
    words = ["files", "upload", "data.bin", *files.options()]
    terminal = Terminal(words, cwd=tmp_path)
    terminal.see("uploading")
    terminal.see("data.bin, 3.8 MiB, for fine-tune")
    terminal.close()


class Flaky(training_service_pb2_grpc.TrainingServiceServicer):
    """Has one file, and does with each download what it is told."""

    def __init__(self, data: bytes, *ways: str) -> None:
        self.ways = list(ways)
        self.offsets: list[int] = []
        self._data = data

    def GetFile(self, request: Any, context: Any) -> file_pb2.File:  # noqa: N802 - an RPC
        sha256 = hashlib.sha256(self._data).hexdigest()
        size = len(self._data)
        return file_pb2.File(name=request.name, filename="a", size_bytes=size, sha256=sha256)

    def DownloadFile(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - an RPC
        self.offsets.append(request.offset_bytes)
        way = self.ways.pop(0) if self.ways else "well"
        rest = self._data[request.offset_bytes :]
        if way == "refuses":
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if way == "other":
            rest = rest.swapcase()
        half = rest if way in ("well", "other") else rest[: len(rest) // 2]
        yield httpbody_pb2.HttpBody(data=half)
        if way == "breaks":
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        if way == "fails":
            context.abort(grpc.StatusCode.INTERNAL, "broken")


@contextmanager
def serving(servicer: Flaky) -> Iterator[Files]:
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Files(f"127.0.0.1:{port}")
        server.stop(None).wait()


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flaky]:
    """Retries at once: what is tested is not the pause."""
    monkeypatch.setattr("services.cli.file_transfer.FIRST_PAUSE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    return lambda *ways: Flaky(b"abcdefgh", *ways)


@pytest.mark.parametrize(
    ("ways", "offsets"),
    [
        ((), [0]),
        (("breaks",), [0, 4]),
        (("breaks", "breaks"), [0, 4, 6]),
        (("refuses", "breaks", "refuses"), [0, 0, 4, 4]),
    ],
)
def test_a_download_goes_on_where_it_broke(
    flaky: Callable[..., Flaky], tmp_path: Path, ways: tuple[str, ...], offsets: list[int]
) -> None:
    service = flaky(*ways)
    with serving(service) as files:
        files("download", "file-1", "-o", "out")
    assert service.offsets == offsets
    assert (tmp_path / "out").read_bytes() == b"abcdefgh"


@pytest.mark.parametrize(
    ("ways", "calls", "said"),
    [
        (("fails",), 1, "broken"),
        (("short",), 1, "4 of 8 bytes"),
        (("other",), 1, "What came is not a"),
        (("refuses",) * 9, 6, "Can't reach the training service"),
    ],
)
def test_what_is_not_whole_leaves_nothing(
    flaky: Callable[..., Flaky], tmp_path: Path, ways: tuple[str, ...], calls: int, said: str
) -> None:
    service = flaky(*ways)
    (tmp_path / "old").write_text("old")
    with serving(service) as files:
        result = files("download", "file-1", "-o", "old", "--force", status=1)
    assert said in result.stderr
    assert len(service.offsets) == calls
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"

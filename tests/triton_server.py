"""A real Triton Inference Server for tests, from the wheel that `.venv-triton` holds.

The server has an environment of its own, as its container would: its python backend needs numpy
below 2. Models there may import what the platform's environment has (torch, transformers), which
stands behind its own on their path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.ports import free_ports

_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = _ROOT / ".venv-triton"
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = _ENVIRONMENT / "lib" / f"python{_VERSION}" / "site-packages"
_WHEEL = _PACKAGES / "pytriton" / "tritonserver"
_START_S = 120.0


class TritonServer:
    """One Triton process. It starts without models: tests load what they need."""

    def __init__(self, repository: Path, folder: Path, flags: Sequence[str] = ()) -> None:
        """Starts nothing yet.

        Args:
            repository: folder of models; tests put them there (`add`) before they load them.
            folder: where backends and the log are kept.
            flags: more flags of the server.
        """
        self.repository = repository
        self.folder = folder
        self.flags = tuple(flags)
        self.grpc_port, self.http_port, self.metrics_port = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where its gRPC API is."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http(self) -> str:
        """Where its HTTP API is."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "triton.log").read_text(errors="replace")

    def add(self, name: str, files: Mapping[str, str]) -> Path:
        """Puts a model into the repository: texts by their paths within its folder."""
        model = self.repository / name
        for path, text in files.items():
            file = model / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return model

    def start(self, *, wait: bool = True) -> TritonServer:
        """Starts it, under the same ports each time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        backends = _backends(self.folder)
        command = [
            str(_WHEEL / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={backends}",
            f"--cache-directory={_WHEEL / 'caches'}",
            f"--grpc-port={self.grpc_port}",
            f"--http-port={self.http_port}",
            f"--metrics-port={self.metrics_port}",
            *(f"--{api}-address=127.0.0.1" for api in ("grpc", "http", "metrics")),
            "--model-control-mode=explicit",
            "--exit-on-error=false",
            "--strict-readiness=false",
            "--exit-timeout-secs=5",
            "--backend-config=python,shm-default-byte-size=4194304",
            "--backend-config=python,stub-timeout-seconds=120",
            f"--backend-config=python,shm-region-prefix-name=penstock{self.grpc_port}_",
            *self.flags,
        ]
        with (self.folder / "triton.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=_environment(), stdout=log, stderr=log
            )
        if wait:
            self.wait_live()
        return self

    def wait_live(self) -> None:
        """Waits until it answers."""
        assert self.process is not None
        deadline = time.monotonic() + _START_S
        with grpc.insecure_channel(self.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while True:
                try:
                    if stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5).live:
                        return
                except grpc.RpcError:
                    assert self.process.poll() is None, f"Triton ended:\n{self.log[-4000:]}"
                    assert time.monotonic() < deadline, f"Triton is silent:\n{self.log[-4000:]}"
                    time.sleep(0.05)

    def stubs(self) -> list[int]:
        """Process IDs of its python models."""
        assert self.process is not None
        return [pid for pid in _children(self.process.pid) if "python_backend_stub" in _line(pid)]

    def kill(self) -> None:
        """Kills it, as a fault would: with its models, which would outlive it for a while."""
        if self.process is None:
            return
        models = _children(self.process.pid) if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for pid in models:
            _kill(pid)
        self.process = None
        for left in Path("/dev/shm").glob(f"penstock{self.grpc_port}_*"):
            left.unlink(missing_ok=True)

    def stop(self) -> None:
        """Has it end."""
        if self.process is None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.kill()


@contextmanager
def running_triton(
    repository: Path | None = None, flags: Sequence[str] = ()
) -> Iterator[TritonServer]:
    """Runs a Triton; by default on an empty repository. Skips where its environment is missing."""
    if not (_WHEEL / "bin" / "tritonserver").exists():
        pytest.skip("Triton is not installed: run `make triton`")
    folder = Path(tempfile.mkdtemp(prefix="penstock-triton-"))
    if repository is None:
        repository = folder / "models"
        repository.mkdir()
    server = TritonServer(repository, folder / "server", flags)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _backends(folder: Path) -> Path:
    """The folder that Triton finds its python backend in, with the stub of this Python."""
    python = folder / "backends" / "python"
    if not python.exists():
        python.mkdir(parents=True)
        for file in (_WHEEL / "backends" / "python").iterdir():
            (python / file.name).symlink_to(file)
        stub = _WHEEL / "python_backend_stubs" / _VERSION / "triton_python_backend_stub"
        (python / stub.name).symlink_to(stub)
    return python.parent


def _environment() -> dict[str, str]:
    libraries = [_PACKAGES / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_"))}
    environment["PATH"] = f"{_ENVIRONMENT / 'bin'}:{os.environ['PATH']}"
    environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    environment["OMP_NUM_THREADS"] = "1"
    return environment


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_children(child)]
    return found


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

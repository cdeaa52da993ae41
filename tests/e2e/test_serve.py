"""What someone sees who types `make serve`."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.callers import STORY
from tests.e2e.stack import (
    REPOSITORY,
    SERVICES,
    STARTER,
    USER_TOKEN,
    Platform,
    alive,
    configuration,
    running,
)
from tests.integration.cli.terminal import Terminal
from tests.ports import free_ports

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
MODELS = {"penstock-starter": {"path": str(STARTER), "type": "chat"}}


def test_a_first_start_shows_everything_and_a_later_one_keeps_the_key(tmp_path: Path) -> None:
    with running(tmp_path, configuration(MODELS)) as platform:
        screen = platform.log.read_text()
        for word in ("model", "inference", "penstock-starter", platform.url):
            assert word in screen, screen
        key = platform.key
        assert key in screen, "the first start prints the key once"
        assert stat.S_IMODE((platform.data_dir / "admin-key").stat().st_mode) == 0o600
        line = re.search(r"curl (?:.|\n)*?\n\s*\n", screen[screen.index("curl ") :] + "\n\n")
        assert line is not None
        command = shlex.split(line[0].replace("\\\n", " ").replace("\n", " "))
        answer = subprocess.run([*command, "-s"], capture_output=True, text=True, timeout=60)
        assert "chat.completion" in answer.stdout, (command, answer)
        user = {"authorization": f"Bearer {USER_TOKEN}"}
        assert httpx.get(f"{platform.url}/v1/models", headers=user).status_code == 200
        assert httpx.get(f"{platform.url}/v1/models").status_code == 401
        pids = list(platform.facts["pids"].values())
        assert all(alive(pid) for pid in pids)
        *written, usage, end = stopped_while_it_writes(platform)
        assert json.loads(written[-1])["choices"][0]["finish_reason"] == "length"
        assert json.loads(usage)["usage"]["completion_tokens"] == 300, "what runs finishes first"
        assert end == "[DONE]"
        assert platform.process.wait(60) == 0
        assert not any(alive(pid) for pid in pids)
        assert "Stopped." in platform.log.read_text()
    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / "data").rename(again / "data")
    later_start_in_a_terminal(again, key)


def stopped_while_it_writes(platform: Platform) -> list[str]:
    """Ctrl-C while an answer is written: returns what came of it."""
    body = STORY | {"model": "penstock-starter", "stream": True, "max_tokens": 300}
    body["stream_options"] = {"include_usage": True}
    with httpx.stream(
        "POST",
        f"{platform.url}/v1/chat/completions",
        json=body,
        headers=platform.headers(),
        timeout=60,
    ) as answer:
        lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
        first = next(lines)
        platform.process.send_signal(signal.SIGINT)
        return [first, *lines]


def later_start_in_a_terminal(folder: Path, key: str) -> None:
    """Starts it once more, shows that, and stops it with Ctrl-C."""
    (folder / "penstock.toml").write_text(configuration(MODELS))
    port, *ports = map(str, free_ports(1 + len(SERVICES)))
    addresses = {
        f"PENSTOCK_SERVICES_{service.upper()}_ADDRESS": f"127.0.0.1:{own}"
        for service, own in zip(SERVICES, ports, strict=True)
    }
    words = ["serve", "--engine", "echo", "--port", port, "--data-dir", "data"]
    terminal = Terminal(words, folder, **addresses)
    try:
        terminal.see("Starting Penstock")
        for row in ("✓ model", "✓ penstock-starter ready", "is ready after", "admin-key", "Try:"):
            terminal.see(row, within_s=300)
        pids = list(json.loads((folder / "data" / "serve.json").read_text())["pids"].values())
        assert all(alive(pid) for pid in pids)
        terminal.type("\x03")
        terminal.see("Stopping: requests that run finish first.")
        terminal.see("Stopped.", within_s=60)
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert key not in terminal.raw.decode(), "only the first start prints it"
    assert not any(alive(pid) for pid in pids)


def test_a_taken_edge_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = ["serve", "--port", str(port), "--data-dir", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "services.cli.main", *command],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=REPOSITORY,
        )
    assert done.returncode == 2
    assert str(port) in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def answer_again(platform: Platform, within_s: float = 60) -> None:
    body = {"model": "penstock-starter", "messages": [{"role": "user", "content": "Hello!"}]}
    deadline = time.monotonic() + within_s
    answer: object = None
    time.sleep(1)  # the supervisor has noticed by then
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(
                f"{platform.url}/v1/chat/completions",
                json=body,
                headers=platform.headers(),
                timeout=30,
            )
            if answer.status_code == 200:
                return
            assert answer.status_code == 503, answer.text
        except httpx.TransportError as error:
            answer = error
        time.sleep(0.3)
    raise AssertionError(f"no answer: {answer}\n{platform.log.read_text()}")

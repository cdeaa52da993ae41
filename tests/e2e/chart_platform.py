"""Runs what the chart's pods run, in a network and with a hosts file of its own: inside
`unshare --map-root-user --net --mount`, `python -m tests.e2e.chart_platform FOLDER`.

The folder holds `hosts`, `envoy.yaml`, the certificate of the authority, and `containers.json`: of
each container its name, module, variables and readiness probe. What came of it is told in JSON.
"""

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ENVOY = Path(sys.executable).with_name("envoy")
WAIT_S = 90.0


def main(folder: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"], check=True)
    containers = json.loads((folder / "containers.json").read_text())
    with contextlib.ExitStack() as stack:
        for one in containers:
            stack.enter_context(running([sys.executable, "-m", one["module"]], one, folder))
        envoy = [ENVOY, "-c", folder / "envoy.yaml", "--disable-hot-restart", "--concurrency", "1"]
        stack.enter_context(running(envoy, {"name": "envoy", "env": {}}, folder))
        ready = {one["name"]: until_ready(one) for one in containers}
        front = Front(folder)
        story = {name: front.ask(*request) for name, request in REQUESTS.items()}
    json.dump({"ready": ready, "story": story}, sys.stdout)


@contextlib.contextmanager
def running(command: list[Any], one: dict[str, Any], folder: Path) -> Any:
    """Runs a process while the block runs; its words are in the folder."""
    with (folder / f"{one['name']}.log").open("wb") as log:
        env = surroundings() | one["env"]
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def surroundings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}


def until_ready(one: dict[str, Any]) -> str:
    """Asks as the kubelet would, until it is satisfied."""
    deadline = time.monotonic() + WAIT_S
    while True:
        satisfied, said = asked(one)
        if satisfied or time.monotonic() > deadline:
            return "ready" if satisfied else said
        time.sleep(0.2)


def asked(one: dict[str, Any]) -> tuple[bool, str]:
    probe = one["probe"]
    if "exec" in probe:
        run = subprocess.run(
            [sys.executable, *probe["exec"]["command"][1:], "--timeout=10"],
            env=surroundings() | one["env"],
            capture_output=True,
            text=True,
            check=False,
        )
        return run.returncode == 0, run.stderr
    where = probe["httpGet"]
    connection = http.client.HTTPConnection("127.0.0.1", where["port"], timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("GET", where["path"])
            return connection.getresponse().status == 200, "not 200"
        except OSError as error:
            return False, str(error)


_HELLO = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "Hello!"}]}]}
REQUESTS = {
    "rest": (
        "/v1/chat/completions",
        {"model": "penstock-starter", "messages": [{"role": "user", "content": "Hello!"}]},
    ),
    "native": ("/penstock/v1/models/penstock-starter:chat", _HELLO),
    "embedding": ("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "Hello"}),
}


class Front:
    """Envoy, as callers see it: over TLS, by the authority's certificate."""

    def __init__(self, folder: Path) -> None:
        self._tls = ssl.create_default_context(cafile=str(folder / "authority.pem"))
        self._key = (folder / "key").read_text()

    def ask(self, path: str, body: Any) -> Any:
        """Asks until Envoy has found that its hosts are healthy; returns status and answer."""
        deadline = time.monotonic() + 30
        while True:
            status, answer = self._once(path, json.dumps(body))
            if status != 503 or time.monotonic() > deadline:
                return [status, answer]
            time.sleep(0.2)

    def _once(self, path: str, body: str) -> tuple[int, str]:
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        connection = http.client.HTTPSConnection("localhost", 8000, timeout=60, context=self._tls)
        with contextlib.closing(connection):
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

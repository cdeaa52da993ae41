"""One more process of a service of a running platform."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.stack import Platform


@contextlib.contextmanager
def replica(platform: Platform, service: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """One more process of a service, started as the platform's own was."""
    own = Path(f"/proc/{platform.pid(service)}")
    words = (own / "cmdline").read_text().rstrip("\0").split("\0")
    variables = (own / "environ").read_text().rstrip("\0").split("\0")
    words[words.index("--port") + 1] = "0"
    environment = dict(variable.split("=", 1) for variable in variables)
    environment[f"PENSTOCK_SERVICES_{service.upper()}_ADDRESS"] = "127.0.0.1:0"
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()

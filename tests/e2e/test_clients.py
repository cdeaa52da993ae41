"""Real client libraries against the running platform, each in an environment of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.openai_scenarios import PYTHON_SCENARIOS
from tests.e2e.stack import REPOSITORY, Platform

HERE = Path(__file__).parent
CLIENTS = REPOSITORY / ".venv" / "clients"
NODE = REPOSITORY / ".venv" / "bin" / "node"


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("scenario", PYTHON_SCENARIOS)
@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str, scenario: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    assert "ok" in run(python, HERE / "openai_session.py", scenario, platform.url, platform.key)


NODE_SCENARIOS = ["models", "chat", "stream", "completions", "errors", "options", "disconnect"]


@pytest.mark.parametrize("scenario", NODE_SCENARIOS)
def test_openai_node(platform: Platform, scenario: str) -> None:
    script = HERE / "node" / "openai.mjs"
    assert "ok" in run(NODE, script, scenario, platform.url, platform.key)


def test_node_grpc_client_lists_models_and_streams_a_chat(platform: Platform) -> None:
    roots = f"{REPOSITORY / 'protos'}:{REPOSITORY / 'protos' / 'vendor'}"
    addresses = (platform.address("model"), platform.address("inference"))
    assert "ok" in run(NODE, HERE / "node" / "grpc.mjs", roots, *addresses, platform.key)

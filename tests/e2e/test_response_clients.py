"""Responses with real client libraries, each in an environment of its own."""

from __future__ import annotations

import pytest

from tests.e2e.stack import Platform
from tests.e2e.test_clients import CLIENTS, HERE, NODE, run

PYTHON_SCENARIOS = [
    *("create", "stream", "helper", "parse", "tools", "stored", "search", "errors", "disconnect"),
]
NODE_SCENARIOS = ["create", "stream", "parse", "stored"]


@pytest.mark.parametrize("scenario", PYTHON_SCENARIOS)
@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str, scenario: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    script = HERE / "openai_response_session.py"
    assert "ok" in run(python, script, scenario, platform.url, platform.key)


@pytest.mark.parametrize("scenario", NODE_SCENARIOS)
def test_openai_node(platform: Platform, scenario: str) -> None:
    script = HERE / "node" / "openai_responses.mjs"
    assert "ok" in run(NODE, script, scenario, platform.url, platform.key)

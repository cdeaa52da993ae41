"""Responses with real client libraries, each in an environment of its own."""

from __future__ import annotations

import pytest

from tests.e2e.stack import Platform
from tests.e2e.test_clients import CLIENTS, HERE, NODE, TIMEOUT_S, run

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    said = run(python, HERE / "openai_response_session.py", "all", platform.url, platform.key)
    assert said.endswith("ok disconnect\n")


def test_openai_node(platform: Platform) -> None:
    script = HERE / "node" / "openai_responses.mjs"
    assert run(NODE, script, "all", platform.url, platform.key).endswith("ok stored\n")

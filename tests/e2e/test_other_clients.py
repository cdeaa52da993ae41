"""Anthropic's and Ollama's own client libraries against the running platform."""

from __future__ import annotations

import pytest

from tests.e2e.library import CHAT, EMBEDDER
from tests.e2e.stack import Platform
from tests.e2e.test_clients import CLIENTS, HERE, NODE, run


@pytest.mark.parametrize("client", ["anthropic-0", "anthropic-2"])
def test_anthropic_python(platform: Platform, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    said = run(python, HERE / "anthropic_session.py", platform.url, platform.key, CHAT)
    assert said.endswith("ok disconnect\n")


def test_ollama_python(platform: Platform) -> None:
    python = CLIENTS / "ollama" / "bin" / "python"
    arguments = (platform.url, platform.key, CHAT, EMBEDDER)
    assert run(python, HERE / "ollama_session.py", *arguments).endswith("ok disconnect\n")


def test_anthropic_node(platform: Platform) -> None:
    script = HERE / "node" / "anthropic.mjs"
    assert "ok" in run(NODE, script, platform.url, platform.key, CHAT)


def test_ollama_node(platform: Platform) -> None:
    script = HERE / "node" / "ollama.mjs"
    assert "ok" in run(NODE, script, platform.url, platform.key, CHAT, EMBEDDER)

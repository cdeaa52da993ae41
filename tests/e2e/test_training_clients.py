"""Fine-tuning and batches with real client libraries, each in an environment of its own.

What comes of a training is tried in `test_fine_tuning`; here jobs are as short as can be.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.stack import STARTER, Platform, configuration, running
from tests.e2e.test_clients import CLIENTS, HERE, NODE

TIMEOUT_S = 1800
"""Others may work on the machine."""
pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    models = {"penstock-starter": {"path": str(STARTER), "type": "chat"}}
    started = running(tmp_path_factory.mktemp("tuned"), configuration(models), ready_within_s=300)
    with started as platform:
        yield platform


def run(platform: Platform, *command: object) -> None:
    words = [str(word) for word in (*command, "all", platform.url, platform.key)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    log = platform.log.read_text()[-4000:]
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert done.stdout.endswith("ok errors\n")


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
@pytest.mark.parametrize("what", ["batch", "fine_tuning"])
def test_openai_python(platform: Platform, client: str, what: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    run(platform, python, HERE / f"openai_{what}_session.py")


def test_openai_node(platform: Platform) -> None:
    run(platform, NODE, HERE / "node" / "openai_fine_tuning.mjs")

"""Images with real client libraries, each in an environment of its own.

The echo engine draws: what is tried here are the clients and the edge.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Platform, configuration, running
from tests.e2e.test_clients import CLIENTS, HERE, NODE, TIMEOUT_S, run

MODEL = "painter"
ECHO = '[services.image]\nengine = "echo"\n'
pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    models = {MODEL: {"path": "/nothing", "type": "image"}}
    with running(tmp_path_factory.mktemp("painter"), configuration(models, ECHO)) as started:
        yield started


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    arguments = ("all", platform.url, platform.key, MODEL)
    assert run(python, HERE / "openai_image_session.py", *arguments).endswith("ok errors\n")


def test_openai_node(platform: Platform) -> None:
    arguments = ("all", platform.url, platform.key, MODEL)
    assert run(NODE, HERE / "node" / "openai_images.mjs", *arguments).endswith("ok errors\n")

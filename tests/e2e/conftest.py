from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.stack import MINILM, STARTER, Platform, configuration, running

MODELS = {
    "penstock-starter": {"path": str(STARTER), "type": "chat", "aliases": ["default"]},
    "org/starter": {"path": str(STARTER), "type": "completion"},
    "all-minilm-l6-v2": {"path": str(MINILM), "type": "embedding"},
}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform on its embedded defaults: the torch engine and the starter model."""
    with running(tmp_path_factory.mktemp("platform"), configuration(MODELS)) as started:
        yield started

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Two cores run the tests: more threads than that only fight. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrites the golden files")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A Postgres on a unix socket; gives the folder of the socket."""
    from tests.postgres_server import running_postgres

    with running_postgres() as socket:
        yield socket

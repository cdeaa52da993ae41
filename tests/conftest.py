from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.triton_server import TritonServer

# Two cores run the tests: more threads than that only fight. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Nobody here speaks TLS to the world: to read the certificates of its authorities would take every
# HTTP client, ours and those that we start, longer than most of its requests.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.path.dirname(__file__)

# Time decides no test: where others work too, any example may take a while.
settings.register_profile("penstock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("penstock")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrites the golden files")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without the garbage collector: of two million objects, imported and made meanwhile,
    hardly one is garbage, and to look at all of them again and again takes a third of the time.
    It never looks at them later either."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def triton() -> Iterator[TritonServer]:
    """A Triton without models; tests put them into its repository and load them."""
    from tests.triton_server import running_triton

    with running_triton() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A Postgres on a unix socket; gives the folder of the socket."""
    from tests.postgres_server import running_postgres

    with running_postgres() as socket:
        yield socket

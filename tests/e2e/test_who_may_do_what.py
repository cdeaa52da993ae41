"""Every route, with every role and every kind of credential: who gets in, and who does not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route, Router

from gateway.app import build
from gateway.clients import Clients
from gateway.description import description
from gateway.settings import Settings
from policy.principals import Role
from policy.token_file import TokenFile
from tests.e2e.access_table import (
    DESCRIBED_WITHIN,
    OPEN,
    ROLES,
    TABLE,
    UNDESCRIBED,
    UNGUARDED,
    Row,
)
from tests.e2e.stack import Platform, configuration, running

MODELS = {"echo": {"path": "echo", "type": "chat"}}
ENGINES = '[services.image]\nengine = "echo"\n[services.inference]\nengine = "echo"\n'
NOBODYS = "pnstk_" + "0" * 40
KINDS = ("bearer", "x-api-key", "basic")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, str]) -> Iterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("access")
    file = TokenFile(folder / "data" / "tokens.json")
    keys |= {role: file.create(role, [Role(role)])[1] for role in ROLES}
    with running(folder, configuration(MODELS, ENGINES)) as started:
        _wait_for_keys(started)
        yield started


def _wait_for_keys(platform: Platform) -> None:
    """Until the edge has heard of the keys, it can't tell a wrong one from one that is new."""
    headers, deadline = {"authorization": f"Bearer {NOBODYS}"}, time.monotonic() + 60
    while httpx.get(f"{platform.url}/v1/models", headers=headers).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def http(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=30) as client:
        yield client


def sent(http: httpx.Client, row: Row, key: str = "", kind: str = "bearer") -> int:
    headers, auth = dict[str, str](), None
    if key and kind == "basic":
        auth = ("", key) if "sdapi" in row.path else ("someone", key)
    elif key:
        headers = {"x-api-key": key} if kind == "x-api-key" else {"authorization": f"Bearer {key}"}
    body: dict[str, Any] = {"json": {} if row.body is None else row.body}
    if row.method in {"GET", "DELETE"}:
        body = {}
    return http.request(row.method, row.called, headers=headers, auth=auth, **body).status_code


def rows() -> set[tuple[str, str]]:
    every = [*OPEN, *(row for some, _ in TABLE.values() for row in some)]
    return {(row.method, pattern(row.path)) for row in every}


def pattern(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


async def test_no_route_is_outside_the_table() -> None:
    settings = Settings()
    edge: Any = build(settings, Clients(settings))
    router: Router = edge._app
    served = {
        (method, pattern(route.path))
        for route in router.routes
        if isinstance(route, Route)
        for method in (route.methods or {"POST"}) - {"HEAD"}
    }
    assert served - {("POST", path) for path in UNGUARDED} == rows()


def test_every_row_is_described() -> None:
    told = {
        (method.upper(), pattern(path))
        for path, methods in description()["paths"].items()
        for method in methods
    }
    assert {DESCRIBED_WITHIN.get(each, each) for each in told} == rows() - UNDESCRIBED


def test_what_is_open_needs_nobody(http: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    for row in OPEN:
        # /health is 503 while a busy machine keeps services from telling within a second.
        while (status := sent(http, row)) == 503 and time.monotonic() < deadline:
            time.sleep(0.5)
        assert status == 200, row


@pytest.mark.parametrize("dialect", TABLE)
def test_strangers_get_in_nowhere(http: httpx.Client, dialect: str) -> None:
    for row in TABLE[dialect][0]:
        assert sent(http, row) == 401, row
        for kind in KINDS:
            assert sent(http, row, NOBODYS, kind) == 401, (row, kind)


@pytest.mark.parametrize("dialect", TABLE)
@pytest.mark.parametrize("role", ROLES)
def test_roles(http: httpx.Client, keys: dict[str, str], dialect: str, role: str) -> None:
    for row in TABLE[dialect][0]:
        status = sent(http, row, keys[role])
        assert status != 401, row
        assert (status != 403) == (role in row.roles), (row, status)


@pytest.mark.parametrize("dialect", TABLE)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_credentials(
    http: httpx.Client, keys: dict[str, str], dialect: str, kind: str
) -> None:
    some, taken = TABLE[dialect]
    for row in some:
        status = sent(http, row, keys["superadmin"], kind)
        assert (status != 401) == (kind in taken), (row, status)

"""Bodies and paths that no client of botserver's API would send: each gets a 4xx, soon."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.botserver.conftest import ADMIN, API, Whole
from tests.integration.gateway.odd_bodies import damage
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON

PATHS = {
    "start": ("POST", f"{API}/training/start"),
    "deploy": ("POST", f"{API}/models/deploy"),
    "config": ("PUT", f"{API}/models/base/config"),
}
BODIES: dict[str, dict[str, Any]] = {
    "start": {
        "base_model": "base",
        "dataset": "hours",
        "epochs": 3,
        "learning_rate": 0.1,
        "batch_size": 4,
        "method": "lora",
        "suffix": "x",
        "validation_dataset": "held-out",
        "seed": 1,
    },
    "deploy": {
        "name": "new",
        "source": "/nowhere",
        "type": "chat",
        "context_length": 16,
        "dimensions": 8,
        "default_temperature": 1,
        "quantization": "auto",
        "replicas": 1,
        "wait": False,
        "base_model": "base",
    },
    "config": {
        "config": {
            "default_temperature": 1,
            "default_top_p": 1,
            "default_max_tokens": 4,
            "max_batch_size": 1,
            "system_prompt": "x",
            "stop": ["x"],
            "context_length": 64,
        },
        "version": None,
        "model_id": "base",
    },
}
GENERATED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code not in (200, 202):
        assert answer.status_code in (400, 404, 409, 413, 429), answer.text
        assert list(answer.json()) == ["error", "message"]


@pytest.fixture
def limit() -> int:
    """Requests come by the hundred here."""
    return 1_000_000


async def send(whole: Whole, kind: str, body: bytes) -> httpx.Response:
    method, path = PATHS[kind]
    return await whole.http.request(method, path, content=body, headers=ADMIN)


async def test_horrors(whole: Whole) -> None:
    for kind in PATHS:
        for name, body in HORRORS.items():
            answer = await send(whole, kind, body)
            settle(answer)
            empty_change = kind == "config" and name == "nothing"
            assert (answer.status_code == 200) is empty_change, (kind, name, answer.text)


@pytest.mark.parametrize("kind", PATHS)
@GENERATED
@given(data=st.data())
async def test_generated_values(whole: Whole, kind: str, data: st.DataObject) -> None:
    body = dict(BODIES[kind])
    names = sorted(body)
    if kind == "config" and data.draw(st.booleans()):
        body = dict(body["config"])
        names = sorted(body)
    changes = data.draw(st.dictionaries(st.sampled_from([*names, "x"]), JSON, max_size=4))
    settle(await send(whole, kind, json.dumps(body | changes).encode("utf-8", "replace")))


@pytest.mark.parametrize("kind", PATHS)
@GENERATED
@given(data=st.data())
async def test_generated_damage(whole: Whole, kind: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BODIES[kind]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damage(data.draw, body)
    settle(await send(whole, kind, bytes(body)))


@GENERATED
@given(
    # Dots alone are taken out of a path by the client itself.
    name=(st.text(min_size=1, max_size=20) | st.binary(min_size=1, max_size=20)).filter(
        lambda name: set(name) - set(".") - set(b".")
    ),
    route=st.sampled_from(
        [
            ("GET", "training/{}/status"),
            ("POST", "training/{}/cancel"),
            ("GET", "models/{}"),
            ("DELETE", "models/{}"),
            ("GET", "models/{}/config"),
            ("PUT", "models/{}/config"),
        ]
    ),
)
async def test_generated_names(whole: Whole, name: str | bytes, route: tuple[str, str]) -> None:
    method, path = route
    answer = await whole.http.request(
        method, f"{API}/{path.format(quote(name, safe=''))}", headers=ADMIN
    )
    if answer.status_code != 405:  # `deploy` and its like
        settle(answer)


@GENERATED
@given(
    headers=st.dictionaries(
        st.sampled_from(["idempotency-key", "if-match", "x-request-id"]),
        # The client itself refuses blanks around a value.
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")).map(
            str.strip
        ),
        max_size=2,
    )
)
async def test_generated_headers(whole: Whole, headers: dict[str, str]) -> None:
    given = {**ADMIN, **{name: value.encode("latin-1") for name, value in headers.items()}}
    for kind, (method, path) in PATHS.items():
        body = json.dumps(BODIES[kind]).encode()
        settle(await whole.http.request(method, path, content=body, headers=given))

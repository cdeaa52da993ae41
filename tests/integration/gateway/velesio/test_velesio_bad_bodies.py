"""Bodies that no client of the root paths would send: each gets a 4xx, soon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.gateway.odd_bodies import damage
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON
from tests.integration.gateway.velesio.root_platform import Root, root_platform

BODIES: dict[str, dict[str, Any]] = {
    "/completion": {
        "prompt": ["a", 98],
        "model": "base",
        "n_predict": 2,
        "stream": False,
        "temperature": 0.5,
        "top_k": 4,
        "top_p": 0.5,
        "min_p": 0.1,
        "typical_p": 1,
        "repeat_penalty": 1,
        "repeat_last_n": 0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "mirostat": 0,
        "mirostat_tau": 5,
        "mirostat_eta": 0.1,
        "stop": ["x"],
        "seed": 1,
        "ignore_eos": False,
        "logit_bias": [],
        "n_probs": 1,
        "grammar": "",
        "json_schema": None,
        "return_tokens": True,
        "response_fields": ["content"],
        "n_keep": 0,
        "id_slot": 0,
        "cache_prompt": True,
        "lora": [],
    },
    "/chat/completions": {
        "messages": [{"role": "user", "content": "x"}],
        "model": "base",
        "max_tokens": 2,
        "temperature": 0.5,
        "stream": False,
        "stop": None,
    },
    "/apply-template": {
        "messages": [{"role": "user", "content": "x"}],
        "model": "base",
        "tools": [],
        "add_generation_prompt": True,
    },
    "/template": {"model": "base"},
    "/props": {"model": "base", "stream": False},
    "/tokenize": {"content": "x", "add_special": True, "with_pieces": True, "model": "base"},
    "/detokenize": {"tokens": [1, 2], "model": "base"},
    "/slots": {"action": "save", "filepath": "x", "id_slot": 0},
    "/embedding": {"content": ["a", [1]], "stream": False, "embd_normalize": 2, "model": "vectors"},
    "/embeddings": {"input": ["a"], "dimensions": None, "model": "vectors"},
}
NAMES = {
    "/completion": ["max_tokens", "prompt"],
    "/embedding": ["input"],
    "/embeddings": ["content", "stream"],
}
GENERATED = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Root]:
    async with root_platform(tmp_path_factory.mktemp("root")) as opened:
        yield opened


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        return
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        assert answer.status_code in (400, 404, 413), answer.text
        assert set(answer.json()["error"]) == {"code", "message", "details"}


@pytest.mark.parametrize("path", BODIES)
async def test_horrors(root: Root, path: str) -> None:
    for name, body in HORRORS.items():
        answer = await root.http.post(path, content=body)
        settle(answer)
        # An empty body asks about the default model.
        empty = name == "nothing" and path in ("/template", "/props")
        assert (answer.status_code == 200) is empty, (name, answer.text)


@pytest.mark.parametrize("path", BODIES)
@GENERATED
@given(data=st.data())
async def test_generated_values(root: Root, path: str, data: st.DataObject) -> None:
    names = sorted({*BODIES[path], *NAMES.get(path, ()), "x"})
    changes = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4))
    body = json.dumps(BODIES[path] | changes).encode("utf-8", "replace")
    settle(await root.http.post(path, content=body))


@pytest.mark.parametrize("path", BODIES)
@GENERATED
@given(data=st.data())
async def test_generated_damage(root: Root, path: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BODIES[path]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damage(data.draw, body)
    settle(await root.http.post(path, content=bytes(body)))


@pytest.mark.parametrize("path", ["/template", "/props"])
@GENERATED
@given(model=st.text(max_size=300))
async def test_generated_queries(root: Root, path: str, model: str) -> None:
    settle(await root.http.get(f"{path}?model={quote(model.encode('utf-8', 'replace'))}"))

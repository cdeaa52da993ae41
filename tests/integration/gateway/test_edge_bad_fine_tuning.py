"""Bodies, queries and paths about jobs that no SDK would send: a 4xx in the envelope, soon."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.job_peer import State
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check
from tests.integration.gateway.test_edge_bad_images import GENERATED
from tests.integration.gateway.test_edge_bad_vectors import damaged
from tests.integration.gateway.test_edge_fine_tuning import JOBS, put_file

WHOLE: dict[str, Any] = {
    "model": "base",
    "training_file": "file-1",
    "validation_file": "file-1",
    "suffix": "mine",
    "seed": 1,
    "metadata": {"team": "a"},
    "integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["t"]}}],
    "hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 1.5},
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "auto"}}},
}
PREFERENCES = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1, "batch_size": 4}}}
LISTS = ["", "/{id}/events", "/{id}/checkpoints"]


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    if answer.status_code != 200:
        check(answer)


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode("utf-8", "replace")


@pytest.fixture
def body(edge: Edge) -> dict[str, Any]:
    file_id = put_file(edge)
    return WHOLE | {"training_file": file_id, "validation_file": file_id}


async def test_the_whole_body_is_a_good_one(edge: Edge, body: dict[str, Any]) -> None:
    for method in (body["method"], PREFERENCES):
        assert (await edge.http.post(JOBS, json=body | {"method": method})).status_code == 200


@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(edge: Edge, name: str) -> None:
    check(await edge.http.post(JOBS, content=HORRORS[name]))


@pytest.mark.parametrize("order", ["cancel", "pause", "resume"])
@pytest.mark.parametrize("name", ["array", "number", "text", "null", "truncated", "utf-16"])
async def test_horrors_as_orders(edge: Edge, order: str, name: str) -> None:
    url = f"{JOBS}/{edge.vectors.training.put_job()}/{order}"
    check(await edge.http.post(url, content=HORRORS[name]))


@GENERATED
@given(changes=st.dictionaries(st.sampled_from(sorted(WHOLE)), JSON, max_size=3))
async def test_generated_fields(edge: Edge, body: dict[str, Any], changes: dict[str, Any]) -> None:
    settle(await edge.http.post(JOBS, content=encoded(body | changes)))


NUMBERS = st.integers() | st.floats() | st.just("auto") | JSON
HYPERPARAMETERS = st.dictionaries(
    st.sampled_from(["n_epochs", "batch_size", "learning_rate_multiplier", "beta", "x"]), NUMBERS
)
METHODS = st.fixed_dictionaries(
    {"type": st.sampled_from(["supervised", "dpo", "reinforcement", "x"]) | JSON},
    optional={
        name: JSON | st.fixed_dictionaries({}, optional={"hyperparameters": HYPERPARAMETERS})
        for name in ("supervised", "dpo", "reinforcement")
    },
)


@GENERATED
@given(method=METHODS, old=HYPERPARAMETERS)
async def test_generated_methods(
    edge: Edge, body: dict[str, Any], method: dict[str, Any], old: dict[str, Any]
) -> None:
    settle(
        await edge.http.post(
            JOBS, content=encoded(body | {"method": method, "hyperparameters": old})
        )
    )


@GENERATED
@given(bytes_=damaged(encoded(WHOLE)) | st.binary(max_size=64))
async def test_generated_bytes(edge: Edge, bytes_: bytes) -> None:
    settle(await edge.http.post(JOBS, content=bytes_))


@GENERATED
@given(
    texts=st.dictionaries(
        st.sampled_from(["model", "training_file", "validation_file", "suffix"]),
        st.text(max_size=300),
        min_size=1,
    ),
    key=st.text(max_size=140).map(lambda key: key.encode("utf-8", "replace")),
)
async def test_generated_texts(
    edge: Edge, body: dict[str, Any], texts: dict[str, str], key: bytes
) -> None:
    headers = {b"idempotency-key": bytes(b for b in key.strip() if b >= 32 and b != 127)}
    settle(await edge.http.post(JOBS, content=encoded(body | texts), headers=headers))


NAMES = st.sampled_from(["limit", "after", "stream", "metadata", "x"])
KEYS = st.builds("metadata[{}]".format, st.text(max_size=6))
VALUES = st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["true", "null", "1"])


@GENERATED
@given(path=st.sampled_from(LISTS), query=st.lists(st.tuples(NAMES | KEYS, VALUES), max_size=5))
async def test_generated_queries(edge: Edge, path: str, query: list[tuple[str, str]]) -> None:
    # One that has ended, so that a stream of its events ends, too.
    job_id = edge.vectors.training.put_job(state=State.STATE_SUCCEEDED)
    try:
        text = "&".join(f"{quote(name)}={quote(value)}" for name, value in query)
    except UnicodeEncodeError:  # a lone surrogate can't be in a URL
        return
    settle(await edge.http.get(f"{JOBS}{path.format(id=job_id)}?{text}"))


QUERIES = st.text(st.sampled_from("%&=[]+;:/?a9metadata"), max_size=40)


@GENERATED
@given(query=QUERIES | QUERIES.map("metadata[".__add__))
async def test_generated_query_strings(edge: Edge, query: str) -> None:
    target = {"target": f"{JOBS}?{query}".encode("ascii")}
    settle(await edge.http.get(JOBS, extensions=target))


@GENERATED
@given(
    # Dots alone are taken out of a path by the client itself.
    job_id=(st.text(min_size=1, max_size=20) | st.binary(min_size=1, max_size=20)).filter(
        lambda job_id: set(job_id) - set(".") - set(b".")
    ),
    tail=st.sampled_from(["", "/cancel", "/events", "/events?stream=true", "/checkpoints", "/x"]),
)
async def test_generated_ids(edge: Edge, job_id: str | bytes, tail: str) -> None:
    try:
        path = f"{JOBS}/{quote(job_id, safe='')}{tail}"
    except UnicodeEncodeError:
        return
    if tail == "/cancel":
        check(await edge.http.post(path))
    else:
        check(await edge.http.get(path))

"""Forms, bodies, queries and paths about files that no SDK would send: a 4xx, soon."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON, check
from tests.integration.gateway.test_edge_bad_images import FORM, GENERATED, part
from tests.integration.gateway.test_edge_bad_vectors import damaged
from tests.integration.gateway.test_edge_vector_stores import STORES, create

FILES = "/v1/files"
WHOLE = b"".join(
    [
        part("purpose", b"batch"),
        part("expires_after[anchor]", b"created_at"),
        part("expires_after[seconds]", b"3600"),
        part("file", b"some content", "a.jsonl"),
        b"--b--\r\n",
    ]
)


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    if answer.status_code != 200:
        check(answer)


@pytest.mark.parametrize("name", HORRORS)
async def test_horrors(edge: Edge, name: str) -> None:
    for headers in (FORM, {"content-type": "application/json"}):
        check(await edge.http.post(FILES, content=HORRORS[name], headers=headers))


@GENERATED
@given(
    form=damaged(WHOLE) | st.binary(max_size=80) | st.binary(max_size=80).map(b"--b\r\n".__add__)
)
async def test_generated_forms(edge: Edge, form: bytes) -> None:
    settle(await edge.http.post(FILES, content=form, headers=FORM))


NAMES = st.sampled_from(
    [
        "file",
        "file[]",
        "purpose",
        "expires_after",
        "expires_after[anchor]",
        "expires_after[seconds]",
    ]
)
VALUES = st.sampled_from(
    [b"", b"batch", b"fine-tune", b"created_at", b"3600", b"9" * 60, b"-1", b"1e9", b"\xff", b"{}"]
)
FILENAMES = st.none() | st.text(max_size=12).map(lambda name: name.replace('"', ""))


@GENERATED
@given(parts=st.lists(st.builds(part, NAMES, VALUES, FILENAMES), max_size=6))
async def test_generated_parts(edge: Edge, parts: list[bytes]) -> None:
    body = b"".join([part("purpose", b"batch"), *parts, b"--b--\r\n"])
    settle(await edge.http.post(FILES, content=body, headers=FORM))


@GENERATED
@given(
    given=st.dictionaries(
        st.sampled_from(["limit", "order", "after", "purpose", "x"]),
        st.text(max_size=12) | st.integers().map(str) | st.sampled_from(["batch", "asc"]),
    )
)
async def test_generated_queries(edge: Edge, given: dict[str, str]) -> None:
    query = "&".join(f"{name}={quote(value)}" for name, value in given.items())
    settle(await edge.http.get(f"{FILES}?{query}"))


@GENERATED
@given(
    # Dots alone are taken out of a path by the client itself.
    file_id=(st.text(min_size=1, max_size=20) | st.binary(min_size=1, max_size=20)).filter(
        lambda file_id: set(file_id) - set(".") - set(b".")
    ),
    tail=st.sampled_from(["", "/content", "/", "/x"]),
)
async def test_generated_ids(edge: Edge, file_id: str | bytes, tail: str) -> None:
    path = f"{FILES}/{quote(file_id, safe='')}{tail}"
    check(await edge.http.get(path))
    if not tail:
        check(await edge.http.delete(path))


@GENERATED
@given(
    changes=st.dictionaries(st.sampled_from(["file_id", "attributes", "chunking_strategy"]), JSON)
)
async def test_generated_attachments(edge: Edge, changes: dict[str, Any]) -> None:
    file_id = edge.vectors.training.put(b"some text")
    store = f"{STORES}/{(await create(edge))['id']}"
    body = json.dumps({"file_id": file_id} | changes).encode("utf-8", "replace")
    settle(await edge.http.post(f"{store}/files", content=body))

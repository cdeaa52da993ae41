"""Query strings, decoded into schemas."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from gateway.errors import ProblemError
from gateway.queries import QueryDecoder


class Query(msgspec.Struct, kw_only=True):
    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=9)] = 5
    most: Annotated[int, Meta(ge=1, le=9)] | None = None
    stream: bool | None = None
    labels: Annotated[dict[str, str], Meta(max_length=2)] | Literal["null"] | None = None


DECODER = QueryDecoder(Query)


def read(query: str) -> Query:
    return DECODER({"query_string": query.encode("utf-8")})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", Query()),
        ("limit=3&after=x&unknown=1", Query(limit=3, after="x")),
        ("limit=&after=&stream=", Query()),
        ("limit=3&limit=4", Query(limit=3)),
        ("after=7", Query(after="7")),
        ("most=7", Query(most=7)),
        ("stream=true", Query(stream=True)),
        ("stream=False", Query(stream=False)),
        ("labels[a]=b", Query(labels={"a": "b"})),
        ("labels%5Ba%5D=b&labels[c]=", Query(labels={"a": "b", "c": ""})),
        ("labels[a]=1&labels[a]=2", Query(labels={"a": "1"})),
        ("labels[]=1", Query(labels={"": "1"})),
        ("labels[a][b]=1", Query(labels={"a][b": "1"})),
        ("labels=null", Query(labels="null")),
        ("labels=", Query()),
        ("labels=&labels[a]=b", Query(labels={"a": "b"})),
        ("after[a]=b", Query()),
        ("after=caf%C3%A9+x", Query(after="café x")),
    ],
)
def test_queries(query: str, expected: Query) -> None:
    assert read(query) == expected


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("limit=0", "limit", "integer_below_min_value"),
        ("limit=10", "limit", "integer_above_max_value"),
        ("limit=x", "limit", "invalid_type"),
        ("limit=2.5", "limit", "invalid_type"),
        ("most=0", "most", "integer_below_min_value"),
        ("most=true", "most", "invalid_type"),
        ("stream=1", "stream", "invalid_type"),
        ("stream=yes", "stream", "invalid_type"),
        ("labels=x", "labels", "invalid_value"),
        ("labels=null&labels[a]=b", "labels", "invalid_value"),
        ("labels[a]=b&labels=null", "labels", "invalid_value"),
        ("labels[a]=&labels[b]=&labels[c]=", "labels", "object_above_max_properties"),
    ],
)
def test_refused(query: str, param: str, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        read(query)
    problem = caught.value.problem
    assert (problem.status, problem.param, problem.code) == (400, param, code), problem


@given(labels=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2))
def test_any_label_can_be_asked_for(labels: dict[str, str]) -> None:
    try:
        query = "&".join(f"labels[{quote(k)}]={quote(v)}" for k, v in labels.items())
    except UnicodeEncodeError:  # a lone surrogate can't be in a URL
        return
    assert (read(query).labels or {}) == labels

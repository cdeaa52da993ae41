"""Texts of forms become what their schema says they are."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import ProblemError
from gateway.form_values import FormDecoder


class Inner(msgspec.Struct, kw_only=True):
    anchor: str | None = None
    seconds: int | None = None


class Sample(msgspec.Struct, kw_only=True):
    need: str
    whole: int | None = None
    share: float | None = None
    flag: bool | None = None
    text: str | None = None
    either: int | str | None = None
    items: list[int] | None = None
    inner: Inner | None = None
    labels: dict[str, str] | None = None
    raw: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


DECODER = FormDecoder(Sample)


def decode(*texts: tuple[str, str]) -> Sample:
    return DECODER([("need", "n"), *texts])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("whole", "2", 2),
        ("whole", "-7", -7),
        ("whole", "9" * 30, 10**30 - 1),
        ("whole", "", None),
        ("share", "0.5", 0.5),
        ("share", "1", 1.0),
        ("share", "1e-3", 0.001),
        ("share", ".5", 0.5),
        ("flag", "true", True),
        ("flag", "False", False),
        ("flag", "", None),
        ("text", "2", "2"),
        ("text", "true", "true"),
        ("text", "", None),
        ("either", "12", 12),
        ("either", "auto", "auto"),
    ],
)
def test_values(name: str, text: str, expected: object) -> None:
    assert getattr(decode((name, text)), name) == expected


def test_nested_names() -> None:
    got = decode(
        ("items[]", "1"),
        ("items[]", "2"),
        ("inner[anchor]", "created_at"),
        ("inner[seconds]", "3600"),
        ("labels[a]", "1"),
        ("labels[b]", "x"),
        ("raw[deep]", "z"),
    )
    assert got.items == [1, 2]
    assert got.inner == Inner(anchor="created_at", seconds=3600)
    assert got.labels == {"a": "1", "b": "x"}
    assert isinstance(got.raw, msgspec.Raw)
    assert bytes(got.raw) == b'{"deep":"z"}' or msgspec.json.decode(got.raw) == {"deep": "z"}


@pytest.mark.parametrize(
    ("texts", "param", "code"),
    [
        ([("whole", "2.5")], "whole", "invalid_type"),
        ([("whole", "two")], "whole", "invalid_type"),
        ([("whole", "9" * 50)], "whole", "invalid_type"),
        ([("share", "nan")], "share", "invalid_type"),
        ([("share", "inf")], "share", "invalid_type"),
        ([("flag", "1")], "flag", "invalid_type"),
        ([("whole", "1"), ("whole", "2")], "whole", "invalid_value"),
        ([("items", "1")], "items", "invalid_type"),
        ([("items[]", "x")], "items[0]", "invalid_type"),
        ([("inner", "x"), ("inner[anchor]", "y")], "inner[anchor]", "invalid_value"),
        ([("labels[a]", "x"), ("labels[a]", "y")], "labels[a]", "invalid_value"),
    ],
)
def test_refused(texts: list[tuple[str, str]], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as raised:
        decode(*texts)
    assert (raised.value.problem.param, raised.value.problem.code) == (param, code)


def test_a_required_field_may_be_empty_but_not_absent() -> None:
    assert DECODER([("need", "")]).need == ""
    with pytest.raises(ProblemError) as raised:
        DECODER([])
    assert raised.value.problem.code == "missing_required_parameter"


def test_unknown_names_are_ignored() -> None:
    for name in ("x", "x[y]", "[", "]", "", "a[b][c][d][e]", "whole[x]", "need]"):
        assert decode((name, "1")) == Sample(need="n")


NAMES = st.sampled_from(["need", "whole", "share", "flag", "items", "inner", "labels", "raw", "x"])
KEYS = st.lists(st.sampled_from(["", "a", "anchor", "0"]), max_size=4)


@given(
    texts=st.lists(
        st.tuples(st.tuples(NAMES, KEYS), st.text(max_size=6) | st.sampled_from(["1", "true"])),
        max_size=6,
    )
)
@settings(deadline=None)
def test_any_texts_decode_or_are_refused(texts: list[Any]) -> None:
    form = [
        (name + "".join(f"[{key}]" for key in keys), text.encode("utf-8", "replace").decode())
        for (name, keys), text in texts
    ]
    problem: ProblemError | None = None
    try:
        DECODER(form)
    except ProblemError as error:
        problem = error
    assert problem is None or problem.problem.status == 400

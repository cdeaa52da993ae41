"""Pictures in base64 are read strictly, and nothing is fetched."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProblemError
from gateway.pictures import picture_bytes

FILE = bytes(range(256))
TEXT = base64.b64encode(FILE).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64,{TEXT}",
        f"data:;base64,{TEXT}",
        f" \n{TEXT}\n",
        f"  data:image/png;base64,{TEXT}",
        base64.encodebytes(FILE).decode(),
        base64.encodebytes(FILE).decode().replace("\n", "\r\n"),
    ],
)
def test_read(text: str) -> None:
    assert picture_bytes(text, "f") == FILE


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("http://example.com/x.png", "not fetched"),
        (" HTTPS://example.com/x.png", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
        ("ftp:x", "not fetched"),
        ("data:image/png,abc", "data URL"),
        (f"data:image/png;name=a,b;base64,{TEXT}", "data URL"),
        ("", "no image"),
        (" \n ", "no image"),
        ("data:image/png;base64,", "no image"),
        (TEXT[:-1], "not base64"),
        (TEXT + "A", "not base64"),
        ("AA==AA==", "not base64"),
        (TEXT.replace("+", "-").replace("/", "_"), "not base64"),
        ("/etc/passwd", "not base64"),
        ("é" * 8, "not base64"),
    ],
)
def test_refused(text: str, word: str) -> None:
    with pytest.raises(ProblemError) as caught:
        picture_bytes(text, "image")
    problem = caught.value.problem
    assert (problem.status, problem.param) == (400, "image")
    assert "'image'" in problem.message
    assert word in problem.message


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.pictures._MOST_BYTES", 255)
    with pytest.raises(ProblemError, match="limit of 255 bytes"):
        picture_bytes(TEXT, "f")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert picture_bytes(text, "f")
    except ProblemError as error:
        problem = error.problem
    else:
        return
    assert problem.param == "f"

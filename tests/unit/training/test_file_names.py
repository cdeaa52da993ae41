"""Names, IDs and media types of files."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.blobs.port import check_key
from services.errors import InvalidArgument, NotFound
from services.training.media import check_type, media_type
from services.training.names import (
    blob_of,
    check_filename,
    file_name,
    new_file_id,
    parse_file,
)

TRICKS = [
    "",
    ".",
    "..",
    "../x.jsonl",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "..\\x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "a\u2028b",
    "x" * 256,
    "é" * 128,
]


@pytest.mark.parametrize("name", TRICKS)
def test_tricky_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_filename(name, "header.filename")
    assert caught.value.field == "header.filename"


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "...", "~", "-rf", "données é.jsonl", "図.jsonl", "👩‍👩‍👧.txt", "x" * 255, "CON"],
)
def test_odd_names_are_kept_as_they_are(name: str) -> None:
    assert check_filename(name, "f") == name


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_name_that_passes_is_one_part_of_a_path(name: str) -> None:
    try:
        check_filename(name, "f")
    except InvalidArgument:
        return
    assert os.path.basename(name) == name
    assert name not in ("", ".", "..")
    assert len(name.encode()) <= 255
    assert "\0" not in name


def test_ids_are_keys_of_blobs() -> None:
    ids = {new_file_id() for _ in range(100)}
    assert len(ids) == 100
    for id in ids:
        assert re.fullmatch("file-[0-9A-Za-z]{24}", id)
        assert check_key(blob_of(id))
        assert parse_file(file_name(id), "name") == id


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", InvalidArgument),
        ("file-" + "a" * 24, InvalidArgument),
        ("files/a/b", InvalidArgument),
        ("jobs/file-" + "a" * 24, InvalidArgument),
        ("files/..", NotFound),
        ("files/file-" + "a" * 23, NotFound),
        ("files/file-" + "a" * 23 + "\0", NotFound),
        ("files/file-" + "a" * 24 + "\n", NotFound),
        ("files/" + "x" * 10_000, NotFound),
    ],
)
def test_other_names_are_refused(name: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_file(name, "name")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("given", "filename", "type"),
    [
        ("", "a.jsonl", "application/jsonl"),
        ("", "A.JSONL", "application/jsonl"),
        ("", "a.json", "application/json"),
        ("", "a.pdf", "application/pdf"),
        ("", "a.png", "image/png"),
        ("", "a.md", "text/markdown"),
        ("", "a.jsonl.gz", "application/octet-stream"),
        ("", "a", "application/octet-stream"),
        ("", "data:text", "application/octet-stream"),
        ("", "a.unheardof", "application/octet-stream"),
        ("text/plain; charset=utf-8", "a.jsonl", "text/plain; charset=utf-8"),
        ('text/plain; charset="utf-8"', "a", 'text/plain; charset="utf-8"'),
    ],
)
def test_media_types(given: str, filename: str, type: str) -> None:
    assert media_type(given, filename, "f") == type


@pytest.mark.parametrize(
    "given", ["x", "a/b/c", "a/", "/b", "a/b\r\nx: y", "a/b;", "a/b\n", "ä/b", " a/b"]
)
def test_what_is_no_media_type_is_refused(given: str) -> None:
    with pytest.raises(InvalidArgument):
        media_type(given, "a", "header.mime_type")


@pytest.mark.parametrize(
    ("type", "allowed", "taken"),
    [
        ("application/jsonl", [], True),
        ("application/jsonl", ["application/jsonl"], True),
        ("Text/Plain; charset=utf-8", ["text/plain"], True),
        ("image/png", ["text/*", "image/*"], True),
        ("imagex/png", ["image/*"], False),
        ("application/octet-stream", ["application/jsonl"], False),
    ],
)
def test_types_may_be_limited(type: str, allowed: list[str], taken: bool) -> None:
    if taken:
        check_type(type, allowed, "f")
        return
    with pytest.raises(InvalidArgument) as caught:
        check_type(type, allowed, "f")
    assert allowed[0] in caught.value.message

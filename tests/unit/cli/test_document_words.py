from pathlib import Path

import pytest
from penstock.retrieval.v1 import collection_pb2, document_pb2, search_pb2

from services.cli.ask import first_line, source_lines
from services.cli.docs import summary_text
from services.cli.document_files import SourceFile, UnreadableError, find_files
from services.cli.document_upload import Refusal, Summary
from services.cli.documents import (
    collection_id,
    collection_row,
    document_facts,
    document_id,
    document_row,
    size_text,
)
from services.cli.failures import UsageFailure


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (Summary(), "c: nothing to do (0 chunks embedded, 0 tokens)."),
        (
            Summary(created=1200, embedded_chunks=1, embedded_tokens=1),
            "c: 1,200 new (1 chunk embedded, 1 token).",
        ),
        (
            Summary(replaced=1, unchanged=2, resumed=3, refusals=[Refusal("a", "b", "c")]),
            "c: 1 replaced, 2 unchanged, 3 stored before the connection broke, 1 rejected "
            "(0 chunks embedded, 0 tokens).",
        ),
    ],
)
def test_what_a_load_did(summary: Summary, words: str) -> None:
    assert summary_text(summary, "c") == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (1024**5, "1024.0 TiB"),
    ],
)
def test_sizes(count: int, words: str) -> None:
    assert size_text(count) == words


def test_ids_of_resource_names() -> None:
    assert collection_id("tenants/t/collections/docs") == "docs"
    assert document_id("tenants/t/collections/c/documents/docs/a/documents/b.md") == (
        "docs/a/documents/b.md"
    )


def test_rows_and_facts() -> None:
    collection = collection_pb2.Collection(
        name="tenants/t/collections/c", embedding_model="m", document_count=1234, size_bytes=2048
    )
    assert [str(cell) for cell in collection_row(collection)] == ["c", "m", "1,234", "0", "2.0 KiB"]
    document = document_pb2.Document(name="tenants/t/collections/c/documents/a/b", title="T\x1b[0m")
    assert [str(cell) for cell in document_row(document)] == ["a/b", "T[0m", "0", "0", ""]
    document.update_time.FromJsonString("2026-01-02T03:04:05Z")
    document.properties["year"] = 2020
    facts = document_facts(document)
    assert facts["changed"] == "2026-01-02 03:04 UTC"
    assert facts[".year"] == "2020.0"


def test_sources() -> None:
    assert source_lines([]) == []
    lines = source_lines(
        [
            search_pb2.Hit(
                document="tenants/t/collections/c/documents/a.md",
                title="A",
                score=0.876,
                text="\n\n first \x1b line\nsecond",
            ),
            search_pb2.Hit(document="tenants/t/collections/c/documents/b.md", score=0.5),
        ]
    )
    assert [line.plain for line in lines] == [
        "",
        "Sources",
        "  1. A  a.md  0.88",
        "     first  line",
        "  2. b.md  0.50",
    ]


def test_first_lines_are_cut() -> None:
    assert first_line("") == ""
    assert first_line("x" * 100) == "x" * 100
    assert first_line("x" * 101) == "x" * 99 + "…"


def test_files_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.MD", "a.txt", "c.py", ".d.md", "sub/e.pdf", ".git/f.md", "sub/g.htm"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (tmp_path / "docs" / "gone.md").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    found = find_files([Path("docs"), Path("docs/c.py"), Path("docs/a.txt")])
    assert [(file.id, file.mime_type) for file in found] == [
        ("docs/a.txt", "text/plain"),
        ("docs/b.MD", "text/markdown"),
        ("docs/sub/e.pdf", "application/pdf"),
        ("docs/sub/g.htm", "text/html"),
        ("docs/c.py", ""),
    ]
    monkeypatch.chdir(tmp_path / "docs" / "sub")
    assert find_files([Path("..") / "a.txt"])[0].id == "a.txt"
    assert [file.id for file in find_files([Path(".")])] == ["e.pdf", "g.htm"]
    (tmp_path / "docs" / "empty").mkdir()
    with pytest.raises(UsageFailure, match="nothing to load"):
        find_files([Path("../empty")])


def test_files_that_can_not_become_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    file = SourceFile("a.txt", path, "text/plain")
    with pytest.raises(UnreadableError, match="No such file"):
        file.read()
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match="empty"):
        file.read()
    with path.open("wb") as large:
        large.truncate(32 * 1024 * 1024 + 1)
    with pytest.raises(UnreadableError, match="larger than 32 MiB"):
        file.read()
    path.write_bytes("é".encode())
    assert file.read() == document_pb2.Document(
        name="a.txt", mime_type="text/plain", data="é".encode()
    )

"""`penstock docs`, `penstock collections` and `penstock ask`, against a service over gRPC."""

import ast
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from services.cli.main import main
from tests.integration.cli.conftest import ENVIRONMENT, Penstock
from tests.integration.cli.test_chat_terminal import Terminal


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at once: what is tested is not the pause."""
    monkeypatch.setattr("services.cli.document_upload.FIRST_PAUSE_S", 0.0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of documents, in the folder where the command runs."""
    folder = tmp_path / "planets"
    (folder / "outer").mkdir(parents=True)
    (folder / "mars.md").write_text("# Mars\n\nThe sky on Mars is red.\n")
    (folder / "venus.txt").write_text("Venus is hot.\n")
    (folder / "outer" / "neptune.html").write_text("<p>Neptune is blue.")
    (folder / ".hidden.md").write_text("not this")
    (folder / "program.py").write_text("not this")
    return folder


def streams(penstock: Penstock) -> list[list[str]]:
    """What came in on each stream."""
    path = penstock.cancelled.with_name(penstock.cancelled.name + ".streams")
    return ast.literal_eval(path.read_text())


def load(penstock: Penstock, *paths: Path, exit_code: int = 0) -> dict[str, Any]:
    result = penstock("docs", "load", *map(str, paths), "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def numbered(folder: Path, *texts: str) -> list[Path]:
    paths = [folder / f"{number}.txt" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return paths


def test_load_creates_the_collection_and_counts(penstock: Penstock, files: Path) -> None:
    result = penstock("docs", "load", "planets")
    assert result.exit_code == 0, result.output
    assert result.stdout == "docs: 3 new (3 chunks embedded, 14 tokens).\n"
    assert "New collection docs, embedded by minilm." in result.stderr
    assert streams(penstock) == [
        ["planets/mars.md", "planets/venus.txt", "planets/outer/neptune.html"]
    ]
    (files / "mars.md").write_text("# Mars\n\nIts dust is rust.\n")
    result = penstock("docs", "load", str(files), "planets/mars.md")
    assert result.stdout.startswith("docs: 1 replaced, 2 unchanged (1 chunk embedded")
    assert "New collection" not in result.stderr
    assert load(penstock, files) == {
        "collection": "tenants/default/collections/docs",
        "created_count": 0,
        "replaced_count": 0,
        "unchanged_count": 3,
        "resumed_count": 0,
        "embedded_chunk_count": 0,
        "embedded_token_count": 12,
        "rejected": [],
    }


def test_ids_of_files_elsewhere(
    penstock: Penstock, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    load(penstock, Path("../planets"))
    load(penstock, Path("../planets/venus.txt"))
    load(penstock, files / "program.py")
    assert streams(penstock) == [
        ["planets/mars.md", "planets/venus.txt", "planets/outer/neptune.html"],
        ["venus.txt"],
        ["program.py"],
    ]


def test_two_files_of_one_name_are_refused(
    penstock: Penstock, files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "venus.txt").write_text("other")
    monkeypatch.chdir(tmp_path / "here")
    result = penstock("docs", "load", "../planets/venus.txt", "../venus.txt")
    assert result.exit_code == 2
    assert "would both be the document venus.txt" in result.stderr


def test_nothing_to_load(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = penstock("docs", "load", "empty")
    assert result.exit_code == 2
    assert "There is nothing to load." in result.stderr
    assert penstock("docs", "load", "missing").exit_code == 2


def test_what_is_rejected_is_shown_with_its_reason(penstock: Penstock, tmp_path: Path) -> None:
    paths = numbered(tmp_path, "good", "reject \x1b[31mthis", "", "also good")
    result = penstock("docs", "load", *map(str, paths))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith("docs: 2 new, 2 rejected")
    assert {line.split()[1]: line for line in lines[1:]}.keys() == {"1.txt", "2.txt"}
    assert "It says reject" in result.stdout
    assert "It is empty." in result.stdout
    assert "\x1b" not in result.stdout
    refused = load(penstock, *paths, exit_code=1)["rejected"]
    assert {refusal["id"]: refusal["reason"] for refusal in refused} == {
        "1.txt": "INVALID_ARGUMENT",
        "2.txt": "UNREADABLE",
    }


@pytest.mark.parametrize("how", ["break", "busy", "cut"])
def test_a_broken_load_goes_on_after_what_is_settled(
    penstock: Penstock, tmp_path: Path, how: str
) -> None:
    texts = [
        "one",
        "reject two",
        "three",
        "",
        "four",
        f"{how} here",
        "six",
        f"{how} there",
        "eight",
    ]
    summary = load(penstock, *numbered(tmp_path, *texts), exit_code=1)
    # Two by two are committed: the first stream settles 0, 1, 2 and 4, the second 5 and 6.
    first, second, third = streams(penstock)
    assert first[:5] == ["0.txt", "1.txt", "2.txt", "4.txt", "5.txt"]
    assert second[:3] == ["5.txt", "6.txt", "7.txt"]
    assert third == ["7.txt", "8.txt"]
    assert summary["resumed_count"] == 5
    assert summary["created_count"] == 2
    assert [refusal["id"] for refusal in summary["rejected"]] == ["3.txt", "1.txt"]


def test_a_load_gives_up_after_some_tries(penstock: Penstock, tmp_path: Path) -> None:
    paths = numbered(tmp_path, "one", "two", "three", "break for ever")
    result = penstock("docs", "load", *map(str, paths))
    assert result.exit_code == 1
    assert "Error: The embedding service is away." in result.stderr
    assert "2 of 4 files are done" in result.stderr
    assert len(streams(penstock)) == 9, "one that settled something, and eight that did not"


def test_a_load_with_another_model_is_refused(penstock: Penstock, files: Path) -> None:
    assert penstock("docs", "load", "planets", "--model", "gte").exit_code == 0
    assert penstock("docs", "load", "planets", "--model", "models/gte").exit_code == 0
    result = penstock("docs", "load", "planets", "--model", "minilm")
    assert result.exit_code == 1
    assert "is embedded by gte, and that never changes" in result.stderr


def test_errors_of_the_service_end_a_load(penstock: Penstock, files: Path) -> None:
    result = penstock("docs", "load", "planets", "--model", "nonsense")
    assert result.exit_code == 1
    assert "There is no such model." in result.stderr
    assert "collection.embedding_model" in result.stderr


def test_the_service_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    options = ["--retrieval-address", "127.0.0.1:1", "--data-dir", str(tmp_path), "--api-key", "k"]
    for words in (["docs", "load", "a.txt"], ["docs", "list"], ["ask", "What?", "--model", "m"]):
        result = CliRunner().invoke(main, [*words, *options], env=ENVIRONMENT)
        assert result.exit_code == 1
        assert "Can't reach the retrieval service at 127.0.0.1:1." in result.stderr
        assert "--retrieval-address" in result.stderr


def test_list_and_show(penstock: Penstock, files: Path) -> None:
    load(penstock, files)
    lines = penstock("docs", "list").stdout.splitlines()
    assert lines[0].split() == ["document", "title", "chunks", "tokens", "changed"]
    assert [line.split()[0] for line in lines[1:]] == [
        "planets/mars.md",
        "planets/venus.txt",
        "planets/outer/neptune.html",
    ]
    result = penstock("docs", "list", "--limit", "2")
    assert len(result.stdout.splitlines()) == 3
    assert "There are more" in result.stderr
    assert [document["title"] for document in penstock.json("docs", "list")][:2] == [
        "Mars",
        "Venus is hot.",
    ]
    shown = penstock("docs", "show", "planets/mars.md").stdout
    assert "text/markdown" in shown
    assert shown.endswith("# Mars\n\nThe sky on Mars is red.\n")
    assert penstock.json("docs", "show", "planets/mars.md")["chunk_count"] == 1
    missing = penstock("docs", "show", "nothing")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "There is no document 'nothing'." in missing.stderr


def test_an_empty_collection(penstock: Penstock, files: Path) -> None:
    load(penstock, files)
    assert penstock("docs", "remove", "planets/mars.md", "--yes").stdout == "1 is removed.\n"
    result = penstock(
        *("docs", "remove", "planets/mars.md", "planets/venus.txt"),
        *("planets/outer/neptune.html", "--yes"),
    )
    assert result.exit_code == 1
    assert result.stdout == "2 are removed, 1 was not there.\n"
    assert "No documents." in penstock("docs", "list").stderr


def test_remove_asks_first(penstock: Penstock, files: Path) -> None:
    load(penstock, files)
    assert penstock("docs", "remove", "planets/mars.md", text="n\n").exit_code == 1
    assert len(penstock.json("docs", "list")) == 3
    assert penstock.json("docs", "remove", "planets/mars.md") == {
        "removed_count": 1,
        "missing_count": 0,
    }


def test_collections(penstock: Penstock, files: Path) -> None:
    assert "No collections." in penstock("collections", "list").stderr
    for name in ("one", "two", "three"):
        assert penstock("docs", "load", "planets", "--collection", name).exit_code == 0
    assert penstock("docs", "load", "planets", "--tenant", "other").exit_code == 0
    lines = penstock("collections", "list").stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["one", "minilm", "3"],
        ["two", "minilm", "3"],
        ["three", "minilm", "3"],
    ]
    (other,) = penstock.json("collections", "list", "--tenant", "other")
    assert other["name"] == "tenants/other/collections/docs"
    assert penstock("collections", "delete", "two", text="n\n").exit_code == 1
    assert penstock("collections", "delete", "two", "-y").stdout == "two is deleted.\n"
    assert penstock("docs", "list", "--collection", "two").exit_code == 1
    assert len(penstock.json("collections", "list")) == 2


def test_ask_answers_and_shows_its_sources(penstock: Penstock, files: Path) -> None:
    load(penstock, files)
    result = penstock("ask", "What color is the sky on Mars ?")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "starter says: it is [31mred ",
        "",
        "Sources",
        "  1. Mars  planets/mars.md  0.50",
        "     # Mars",
        "  2. Venus is hot.  planets/venus.txt  0.50",
        "     Venus is hot.",
        "  3. <p>Neptune is blue.  planets/outer/neptune.html  0.50",
        "     <p>Neptune is blue.",
    ]
    fewer = penstock("ask", "is it ?", "--count", "1", "--model", "mine").stdout
    assert "mine says" in fewer
    assert "Venus" not in fewer


def test_ask_as_json_lines(penstock: Penstock, files: Path) -> None:
    load(penstock, files)
    result = penstock("ask", "hot.", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [hit["title"] for hit in events[0]["retrieved"]["hits"]] == ["Venus is hot."]
    assert "done" in events[-1]["chat"]


def test_ask_fails_in_words(penstock: Penstock, files: Path) -> None:
    missing = penstock("ask", "What?")
    assert missing.exit_code == 1
    assert "There is no collection" in missing.stderr
    assert "`penstock docs load PATH --collection docs`" in missing.stderr
    load(penstock, files)
    nothing = penstock("ask", "xyzzy")
    assert nothing.exit_code == 1
    assert "Nothing was found to answer from." in nothing.stderr
    cut = penstock("ask", "is cut")
    assert cut.exit_code == 1
    assert "cut short" in cut.stderr
    assert "Sources" not in cut.stdout
    assert penstock("ask", " ").exit_code == 2
    late = penstock("ask", "is forever", "--timeout", "1")
    assert late.exit_code == 1
    assert "did not answer in time" in late.stderr


def test_in_a_terminal(penstock: Penstock, files: Path) -> None:
    terminal = Terminal(["docs", "load", "planets", *penstock.options])
    terminal.see("New collection docs")
    terminal.see("0/3")
    terminal.see("docs: 3 new")
    assert terminal.end() == 0
    terminal = Terminal(["ask", "is it forever ?", *penstock.options])
    terminal.see("again again")
    terminal.type("\x03")
    terminal.see("Aborted!")
    assert terminal.end() == 1
    deadline = time.monotonic() + 30
    while not penstock.cancelled.exists():
        assert time.monotonic() < deadline, "the service never saw that nobody listens"
        time.sleep(0.05)


def test_a_user_without_a_key_is_told_so(penstock: Penstock, files: Path) -> None:
    result = penstock("docs", "list", "--api-key", "wrong")
    assert result.exit_code == 1
    assert "PENSTOCK_API_KEY" in result.stderr

"""Documents that people load, and the answers that they get from them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from penstock.inference.v1 import event_pb2

from tests.e2e.library import (
    CHAT,
    PENSTOCK,
    TIMEOUT_S,
    document,
    library,
    penstock,
    sentences,
    text_of,
)
from tests.e2e.stack import REPOSITORY, STARTER, Platform

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
TYPE = "Astronomy"
FACTS = (
    "The sky on Mars is red.",
    "The sky on Earth is blue.",
    "Only the sun and the moon are round.",
    "Saturn has rings of ice.",
    "The sea on Titan is made of methane.",
    "Jupiter is the largest planet.",
    "The bridge in Arlo is 300 metres long.",
    "The baker of Pell sells bread on Sunday.",
)
QUESTION = "What color is the sky on Mars?"
STEADY = "steady-starter"
"""The starter with a temperature of 0, for commands that can't say one."""


def readme_commands() -> list[list[str]]:
    """The commands of the README's paragraph about documents, without their program."""
    readme = (REPOSITORY / "README.md").read_text()
    block = re.search(r"\*\*Your own documents\.\*\*.*?```bash\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    lines = [shlex.split(line, comments=True) for line in block[1].splitlines()]
    assert all(Path(line[0]) == Path(".venv/bin") / PENSTOCK.name for line in lines), lines
    return [line[1:] for line in lines]


@pytest.fixture
def checkout(platform: Platform, tmp_path: Path) -> Iterator[Path]:
    """What the README's commands name, where nobody else edits it."""
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    yield tmp_path
    with library(platform) as mine:
        mine.drop("docs")


def test_a_newcomers_five_minutes(platform: Platform, checkout: Path) -> None:
    load, ask = readme_commands()
    count = len(list(checkout.rglob("*.md")))

    def run(*arguments: str) -> str:
        return penstock(platform, *arguments, cwd=checkout).stdout

    first = penstock(platform, *load, cwd=checkout)
    assert "New collection docs" in first.stderr
    assert f"docs: {count} new" in first.stdout
    assert f"docs: {count} unchanged (0 chunks embedded, 0 tokens)" in run(*load)
    counted = json.loads(run(*load, "--json"))
    assert counted["unchanged_count"] == count
    assert counted["rejected"] == []
    loaded = {item["name"].partition("/documents/")[2] for item in listed(run)}
    assert loaded == {str(p.relative_to(checkout)) for p in checkout.rglob("*.md")}

    answer, _, sources = run(*ask).partition("\nSources\n")
    assert answer.strip()
    shown = re.findall(r"^ +\d+\. .*?(\S+)  [01]\.\d\d *$", sources, re.MULTILINE)
    assert shown, sources
    assert set(shown) <= loaded
    assert "README.md" in shown, "the file that says it"
    events = [json.loads(line) for line in run(*ask, "--json").splitlines()]
    hits = events[0]["retrieved"]["hits"]
    assert [hit["document"].partition("/documents/")[2] for hit in hits] == shown
    assert "".join(part(event) for event in events).strip()
    assert int(events[-1]["chat"]["done"]["usage"]["completion_tokens"]) > 0


def listed(run: Callable[..., str]) -> list[dict[str, Any]]:
    return json.loads(run("docs", "list", "--json"))


def part(event: dict[str, Any]) -> str:
    return event.get("chat", {}).get("delta", {}).get("text", "")


@pytest.fixture(scope="module")
def astronomy(platform: Platform) -> Iterator[None]:
    """Sentences as separate documents, and a model that always answers the same."""
    source = ("--source", str(STARTER), "--kind", "chat")
    penstock(platform, "models", "deploy", STEADY, *source)
    penstock(platform, "models", "config", "set", STEADY, "default_temperature=0")
    with library(platform) as mine:
        mine.create(TYPE)
        mine.put(TYPE, [document(f"fact-{i}", text) for i, text in enumerate(FACTS)])
        yield
        mine.drop(TYPE)
    penstock(platform, "models", "remove", STEADY, "--yes")


def by_grpc(platform: Platform) -> str:
    with library(platform) as mine:
        events = list(mine.answer(TYPE, QUESTION))
    hits = events[0].retrieved.hits
    assert hits[0].text == FACTS[0]
    assert len(hits) == 5
    distances = [hit.distance for hit in hits]
    assert distances == sorted(distances)
    assert events[-1].chat.HasField("done")
    reasons = [e.chat.finished.reason for e in events if e.chat.HasField("finished")]
    assert reasons == [event_pb2.FINISH_REASON_STOP]
    return text_of(events)


def by_command(platform: Platform) -> str:
    told = penstock(platform, "ask", QUESTION, "-c", TYPE, "--model", STEADY).stdout
    answer, _, sources = told.partition("\nSources\n")
    assert FACTS[0] in sources
    return answer


def by_json(platform: Platform) -> str:
    answer = gel_rag(platform, {})
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["finish_reason"] == "stop"
    assert body["text"] == body["response"]
    return body["text"]


def by_sse(platform: Platform) -> str:
    answer = gel_rag(platform, {"stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events[-1] == {"type": "message_stop"}
    return "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta")


def gel_rag(platform: Platform, more: dict[str, Any]) -> httpx.Response:
    body = {"context": {"query": TYPE}, "model": CHAT, "query": QUESTION, "temperature": 0}
    return httpx.post(
        f"{platform.url}/branch/main/ext/ai/rag",
        json=body | more,
        headers=platform.headers(),
        timeout=TIMEOUT_S,
    ).raise_for_status()


@pytest.mark.usefixtures("astronomy")
@pytest.mark.parametrize("way", [by_grpc, by_command, by_json, by_sse])
def test_the_sky_on_mars_is_red(platform: Platform, way: Callable[[Platform], str]) -> None:
    answer = way(platform).lower()
    assert "red" in answer
    assert "blue" not in answer


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_documents_load(platform: Platform, count: int) -> None:
    collection, documents = f"houses-{count}", sentences(count)
    with library(platform) as mine:
        mine.create(collection)
        try:
            settled, stored = 0, list[str]()
            *events, last = mine.upsert(collection, documents)
            for event in events:
                assert event.committed.settled_count > settled
                settled = event.committed.settled_count
                stored += event.committed.names
            assert (last.finish.created_count, last.finish.embedded_chunk_count) == (count, count)
            assert stored == [mine.name(collection, item.name) for item in documents]
            found = mine.get(collection)
            assert (found.document_count, found.chunk_count) == (count, count)
            assert {item.name for item in mine.documents(collection)} == set(stored)
            for wanted in documents[:: count // 3]:
                nearest = mine.search(collection, wanted.text)[0]
                assert nearest.document == mine.name(collection, wanted.name)
            second = mine.put(collection, documents)
            assert (second.unchanged_count, second.embedded_token_count) == (count, 0)
        finally:
            mine.drop(collection)

"""Services that are killed while documents are loaded and asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from penstock.retrieval.v1 import document_pb2, search_pb2

from tests.e2e.conftest import MODELS
from tests.e2e.library import (
    CHAT,
    EMBEDDER,
    PENSTOCK,
    TIMEOUT_S,
    Library,
    again,
    document,
    environment,
    library,
    penstock,
    reasons,
    sentences,
    text_of,
)
from tests.e2e.stack import Platform, alive, configuration, running, until
from tests.e2e.underway import QUESTION, TYPE, Underway, gel

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
FACTS = [
    document("mars", "The sky on Mars is red."),
    document("earth", "The sky on Earth is blue."),
    document("saturn", "Saturn has rings of ice."),
]
HALF = 30
READ = 250
"""Tokens of answers that are read to their end."""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose services may be killed. Its vectors are of the echo engine: what matters is
    whether their service is there. Its answers are of a real model, which takes its time."""
    folder = tmp_path_factory.mktemp("fragile")
    models = {name: MODELS[name] for name in (CHAT, EMBEDDER)}
    config = configuration(models, '[services.embedding]\nengine = "echo"\n')
    with running(folder, config, ready_within_s=300) as started:
        yield started


@pytest.fixture
def books(fragile: Platform) -> Iterator[Library]:
    """The service, with some facts in it."""
    with library(fragile) as mine:
        again(lambda: mine.create(TYPE))
        again(lambda: mine.put(TYPE, FACTS))
        again(lambda: text_of(mine.answer(TYPE, QUESTION)))
        yield mine
        mine.drop(TYPE)


@contextlib.contextmanager
def away(platform: Platform, service: str) -> Iterator[None]:
    """Kills a service, and holds the supervisor so that the service stays away for the block."""
    pid = platform.pid(service)
    os.kill(platform.process.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))
        yield
    finally:
        os.kill(platform.process.pid, signal.SIGCONT)
    until(lambda: platform.facts["pids"].get(service, pid) != pid, 120)


def assert_whole(mine: Library, collection: str, documents: list[document_pb2.Document]) -> None:
    """Checks that these documents are there, each of them whole and found, and no other."""
    found = mine.get(collection)
    assert (found.document_count, found.chunk_count) == (len(documents), len(documents))
    listed = mine.documents(collection)
    assert {item.name for item in listed} == {mine.name(collection, d.name) for d in documents}
    assert all(item.chunk_count == 1 for item in listed)
    for wanted in documents[:: max(1, len(documents) // 3)]:
        nearest = again(lambda text=wanted.text: mine.search(collection, text))[0]
        assert nearest.document == mine.name(collection, wanted.name)


class Load:
    """Documents on their way into a collection: half are stored, the others come when they may."""

    def __init__(self, mine: Library, collection: str) -> None:
        self._mine = mine
        self._collection = collection
        self._documents = sentences(2 * HALF)
        self._more = threading.Event()

    def __enter__(self) -> Load:
        self._mine.create(self._collection)
        self._mine.put(self._collection, self._documents[:1])
        self._stream = self._mine.upsert(self._collection, self._as_they_come())
        while next(self._stream).committed.settled_count < HALF:
            pass
        return self

    def __exit__(self, *error: object) -> None:
        self._more.set()
        self._mine.drop(self._collection)

    def _as_they_come(self) -> Iterator[document_pb2.Document]:
        yield from self._documents[:HALF]
        self._more.wait(TIMEOUT_S)
        yield from self._documents[HALF:]

    def ends(self) -> None:
        """Lets the others come, and all are stored."""
        self._more.set()
        *_, last = self._stream
        assert last.finish.created_count == 2 * HALF - 1

    def fails(self, told: list[str]) -> None:
        """Lets the others come, and the load fails for one of these reasons."""
        self._more.set()
        assert_unavailable(self._stream, told)

    def is_taken_up(self, stored: int) -> None:
        """Once everything is back, so many are stored, and what is missing can be brought again."""
        again(lambda: self._mine.get(self._collection))
        assert_whole(self._mine, self._collection, self._documents[:stored])
        retried = again(lambda: self._mine.put(self._collection, self._documents))
        assert retried.unchanged_count == stored
        assert retried.created_count == 2 * HALF - stored
        assert_whole(self._mine, self._collection, self._documents)


def assert_unavailable(stream: Iterator[Any], told: list[str]) -> None:
    """Reads a stream that fails for these reasons."""
    with pytest.raises(grpc.RpcError) as death:
        list(stream)
    assert isinstance(death.value, grpc.Call)
    assert death.value.code() == grpc.StatusCode.UNAVAILABLE, death.value
    assert reasons(death.value) == told


@pytest.mark.parametrize("service", ["retrieval", "inference"])
def test_a_load_and_answers_while_a_service_that_answers_dies(
    fragile: Platform, books: Library, service: str
) -> None:
    told = [] if service == "retrieval" else ["UNAVAILABLE"]  # a dead process says nothing
    with Load(books, service) as load:
        with Underway(fragile, books) as streams, away(fragile, service):
            if service == "retrieval":
                load.fails(told)
            else:
                load.ends()  # it has no part in it
            assert_unavailable(streams.grpc, told)
            *_, event, data = streams.gel()
            assert event == "event: error"
            said = json.loads(data.removeprefix("data: "))
            assert said["error"]["type"] == "AIProviderError"
            assert said["error"]["message"]
            status, _, err = streams.command()
            assert status == 1
            assert json.loads(err)["error"]["message"]
        load.is_taken_up(HALF if service == "retrieval" else 2 * HALF)
    answers_again(fragile, books)


def test_a_load_and_answers_while_embedding_is_away(fragile: Platform, books: Library) -> None:
    with Load(books, "embedding") as load:
        with Underway(fragile, books, READ) as streams, away(fragile, "embedding"):
            load.fails(["UNAVAILABLE"])
            streams.go_on()  # what has begun needs it no more
            *_, last = streams.grpc
            assert last.chat.HasField("done")
            assert streams.gel()[-1] == 'data: {"type": "message_stop"}'
            assert streams.command()[0] == 0
            assert_unavailable(books.answer(TYPE, QUESTION), ["UNAVAILABLE"])
            refused = gel(fragile)
            assert refused.status_code == 503, refused.text
            assert refused.json()["type"] == "AIProviderError"
            said = penstock(fragile, "ask", QUESTION, "-c", TYPE, "-m", CHAT, status=1)
            assert "Error: " in said.stderr
            by_words = books.search(TYPE, "Mars", search_pb2.SEARCH_MODE_TEXT)
            assert [hit.text for hit in by_words] == [FACTS[0].text], "needs no vectors"
        load.is_taken_up(HALF)
    answers_again(fragile, books)


def test_the_command_goes_on_by_itself_when_retrieval_dies(
    fragile: Platform, tmp_path: Path
) -> None:
    documents = sentences(400)
    for item in documents:
        (tmp_path / f"{item.name}.txt").write_text(item.text)
    with library(fragile) as mine:
        load = [str(PENSTOCK), "docs", "load", ".", "-c", "files", "--json"]
        command = subprocess.Popen(
            load,
            cwd=tmp_path,
            env=environment(fragile),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with command:
            begun = lambda: command.poll() is not None or count(mine, "files") > 0  # noqa: E731
            until(begun, 120, pause_s=0.02)
            os.kill(fragile.pid("retrieval"), signal.SIGKILL)
            out, err = command.communicate(timeout=TIMEOUT_S)
        assert command.returncode == 0, (out, err)
        told = json.loads(out)
        ways = ("created_count", "replaced_count", "unchanged_count", "resumed_count")
        assert sum(told[way] for way in ways) == len(documents), told
        again(lambda: mine.get("files"))
        files = [document(f"{item.name}.txt", item.text) for item in documents]
        assert_whole(mine, "files", files)
        mine.drop("files")


def count(mine: Library, collection: str) -> int:
    """Counts the documents of a collection that may be made only later."""
    try:
        return mine.get(collection).document_count
    except grpc.RpcError:
        return 0


def answers_again(platform: Platform, books: Library) -> None:
    first, *rest = again(lambda: list(books.answer(TYPE, QUESTION)))
    assert first.retrieved.hits[0].text == FACTS[0].text
    assert text_of(rest)
    assert again(lambda: gel(platform).raise_for_status()).json()["text"]
    penstock(platform, "ask", QUESTION, "-c", TYPE, "-m", CHAT)
    assert_whole(books, TYPE, FACTS)


def test_what_is_deleted_is_never_retrieved_again(fragile: Platform, books: Library) -> None:
    modes = (
        search_pb2.SEARCH_MODE_VECTOR,
        search_pb2.SEARCH_MODE_TEXT,
        search_pb2.SEARCH_MODE_HYBRID,
    )
    stores = f"{fragile.url}/v1/vector_stores/{TYPE}"

    def everything() -> str:
        """All that comes back for questions about Mars."""
        found = [hit.text for mode in modes for hit in books.search(TYPE, "sky on Mars", mode)]
        for event in books.answer(TYPE, QUESTION):
            found += [hit.text for hit in event.retrieved.hits] + [event.chat.delta.text]
        passages = httpx.post(
            f"{stores}/search",
            json={"query": QUESTION},
            headers=fragile.headers(),
            timeout=TIMEOUT_S,
        )
        found.append(passages.raise_for_status().text)
        return " ".join([*found, gel(fragile).raise_for_status().text])

    def delete_over_rest() -> None:
        url = f"{stores}/files/mars"
        httpx.delete(url, headers=fragile.headers(), timeout=TIMEOUT_S).raise_for_status()

    assert everything().count(FACTS[0].text) >= 5
    for delete in (
        lambda: books.delete(TYPE, "mars"),
        delete_over_rest,
        lambda: penstock(fragile, "docs", "remove", "mars", "-c", TYPE, "--yes"),
    ):
        books.put(TYPE, FACTS)
        assert FACTS[0].text in everything()
        delete()
        assert "is red" not in everything()
    with away(fragile, "retrieval"):
        pass
    assert "is red" not in again(everything)
    assert_whole(books, TYPE, FACTS[1:])

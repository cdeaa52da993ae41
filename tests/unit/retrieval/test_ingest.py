"""The pipeline over a real store: what it tells is true, whatever comes in and whatever fails."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import NotFound, Unavailable
from services.retrieval.ingest import (
    Committed,
    Event,
    Finish,
    Ingest,
    IngestSettings,
    Rejected,
    Start,
)
from services.retrieval.intake import Incoming
from services.retrieval.names import CollectionRef
from services.retrieval.parsing import Extractor
from services.retrieval.records import Chunking, Collection, Metric, Page
from services.retrieval.store import Store
from services.retrieval.stores import open_store
from services.settings import RetrievalSettings
from tests.ready_databases import ready_file
from tests.unit.retrieval.word_embedder import NOBODY, WordEmbedder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REF = CollectionRef("t", "c")


async def _open(url: str) -> Store:
    return await open_store(url, RetrievalSettings(address=""))


async def opened(folder: Path) -> Store:
    store = await _open(await ready_file(folder / "r.db", _open))
    made = Collection(
        "t", "c", "uid", "m", 64, Metric.COSINE, "c", Chunking(16, 0), (), {}, NOW, NOW, "e"
    )
    await store.create_collection(made)
    return store


async def stream(documents: Sequence[Incoming]) -> AsyncIterator[Incoming]:
    for document in documents:
        yield document


async def upsert(
    store: Store,
    documents: Sequence[Incoming],
    embedder: WordEmbedder | None = None,
    batch_bytes: int = 40,
) -> tuple[list[Event], Exception | None]:
    """Every event, and how the stream failed, if it did."""
    ingest = Ingest(store, embedder or WordEmbedder(), Extractor(), IngestSettings(batch_bytes, 64))
    events: list[Event] = []
    try:
        async for event in ingest.upsert(Start(REF), stream(documents), NOBODY):
            events.append(event)
    except Exception as error:
        return events, error
    return events, None


async def stored(store: Store) -> dict[str, tuple[str, str]]:
    """Text and title of every document; checks that its chunks are there."""
    found = await store.documents("uid", Page(1000), with_text=True)
    collection = await store.collection(*REF)
    assert collection.document_count == len(found)
    assert collection.chunk_count == sum(document.chunk_count for document in found)
    return {document.id: (document.text, document.title) for document in found}


def settled(events: Sequence[Event]) -> int:
    """How far the stream was settled; checks that it never went back."""
    counts = [event.settled_count for event in events if isinstance(event, Committed)]
    assert counts == sorted(counts)
    return counts[-1] if counts else 0


def after(before: dict[str, tuple[str, str]], documents: Sequence[Incoming]):
    """What is stored once these are: the last of each name that can be stored."""
    good = [d for d in documents if d.content]
    return before | {d.name: (str(d.content), d.title) for d in good}


DOCUMENTS = st.lists(
    st.builds(
        Incoming,
        name=st.sampled_from("abcd"),
        title=st.sampled_from(["", "T"]),
        content=st.sampled_from(["red", "blue", "green " * 12, ""]),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, DOCUMENTS, st.integers(0, 12))
def test_what_is_told_is_stored_and_the_last_of_a_name_wins(
    first: list[Incoming], second: list[Incoming], fails_at: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder), first, second, fails_at))


async def check(folder: Path, first: list[Incoming], second: list[Incoming], fails_at: int) -> None:
    store = await opened(folder)
    try:
        events, error = await upsert(store, first)
        assert error is None
        before = after({}, first)
        assert await stored(store) == before
        finish = events[-1]
        assert isinstance(finish, Finish)
        assert settled(events) == len(first)
        counts = (
            finish.created_count,
            finish.replaced_count,
            finish.unchanged_count,
            finish.rejected_count,
        )
        assert sum(counts) == len(first)
        assert finish.created_count == len(before)
        assert finish.rejected_count == sum(isinstance(e, Rejected) for e in events)

        calls = [0]

        def before_call(texts: Sequence[str]) -> None:
            calls[0] += 1
            if calls[0] > fails_at:
                raise Unavailable("away")

        events, error = await upsert(store, second, WordEmbedder(before=before_call))
        assert error is None or isinstance(error, Unavailable)
        done = settled(events)
        assert await stored(store) == after(before, second[:done])
        # Tried again from there, it ends where it would have ended at once.
        _, error = await upsert(store, second[done:])
        assert error is None
        assert await stored(store) == after(before, second)
        again = WordEmbedder()
        events, _ = await upsert(
            store, list({d.name: d for d in second if d.content}.values()), again
        )
        assert again.texts == [], "nothing is embedded again"
    finally:
        await store.close()


async def test_a_stream_is_read_no_faster_than_it_is_stored(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    embedder = WordEmbedder(gate=asyncio.Event())
    taken = 0

    async def counted() -> AsyncIterator[Incoming]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield Incoming(str(number), content="word " * 20)

    ingest = Ingest(store, embedder, Extractor(), IngestSettings(batch_bytes=1000))
    events = ingest.upsert(Start(REF), counted(), NOBODY)
    first = asyncio.ensure_future(anext(events))
    last = -1
    while taken != last:  # until nothing moves any more
        last = taken
        await asyncio.sleep(0.3)
    assert taken <= 10 * 8, "a few batches of ten"
    embedder.gate.set()
    assert isinstance(await first, Committed)
    await events.aclose()
    await store.close()


async def test_leaving_ends_what_runs(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    embedder = WordEmbedder(gate=asyncio.Event())
    before = asyncio.all_tasks()
    events = Ingest(store, embedder, Extractor()).upsert(
        Start(REF), stream([Incoming("a", content="x")]), NOBODY
    )
    first = asyncio.ensure_future(anext(events))
    for _ in range(10_000):
        if embedder.running:
            break
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await events.aclose()
    assert embedder.running == 0
    assert asyncio.all_tasks() == before
    assert await stored(store) == {}
    await store.close()


async def test_a_collection_must_be_there(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.delete_collection(*REF)
    events, error = await upsert(store, [Incoming("a", content="x")])
    assert events == []
    assert isinstance(error, NotFound)
    await store.close()


async def test_titles_are_taken_from_what_names_itself(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    page = Incoming("a", content="# Mars\n\nRed.", mime_type="text/markdown")
    async with Extractor() as extractor:
        ingest = Ingest(store, WordEmbedder(), extractor)

        async def put(document: Incoming) -> Finish:
            events = [e async for e in ingest.upsert(Start(REF), stream([document]), NOBODY)]
            assert isinstance(events[-1], Finish)
            return events[-1]

        assert (await put(page)).created_count == 1
        title = (await store.document("uid", "a")).title
        assert title == "Mars"
        assert (await put(page)).unchanged_count == 1
        named = Incoming("a", title="Mine", content=page.content, mime_type=page.mime_type)
        assert (await put(named)).replaced_count == 1
        assert (await store.document("uid", "a")).title == "Mine"
        assert (await put(page)).replaced_count == 1, "without a title it is the page's own again"
        assert (await store.document("uid", "a")).title == "Mars"
    await store.close()

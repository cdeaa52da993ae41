"""Streams of documents: idempotent, in order, resumable, and honest about what was refused."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from penstock.inference.v1 import priority_pb2 as priority_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import upsert_pb2 as upsert_pb

from tests.integration.reasons import reason
from tests.integration.retrieval.service.rag_platform import (
    PARENT,
    USER,
    Platform,
    broken,
    upserts,
)

Doc = document_pb.Document


def counts(finish: upsert_pb.UpsertFinish) -> tuple[int, int, int, int]:
    return (
        finish.created_count,
        finish.replaced_count,
        finish.unchanged_count,
        finish.rejected_count,
    )


def committed(events: list[upsert_pb.UpsertDocumentsEvent]) -> list[str]:
    return [n.rpartition("/documents/")[2] for e in events for n in e.committed.names]


async def get(rag: Platform, name: str) -> document_pb.Document:
    return await rag.stub.GetDocument(pb.GetDocumentRequest(name=name), metadata=USER)


async def test_sending_again_changes_and_embeds_nothing(rag_on_each: Platform) -> None:
    rag = rag_on_each
    name = await rag.collection()
    sent = [Doc(name=f"d{n}", text=f"text number {n}", title=f"T{n}") for n in range(20)]
    values = {"n": 1.5, "big": 1e300, "no": None, "a": [1.0, {"b": ["x", True]}], "e": {}}
    sent[3].properties.update(values)
    first = await rag.upsert(name, sent)
    assert counts(first[-1].finish) == (20, 0, 0, 0)
    assert first[-1].finish.embedded_chunk_count == 20
    assert first[-2].committed.settled_count == 20
    before = await get(rag, f"{name}/documents/d3")
    again = await rag.upsert(name, sent)
    assert counts(again[-1].finish) == (0, 0, 20, 0)
    assert again[-1].finish.embedded_chunk_count == 0
    assert again[-1].finish.embedded_token_count == 0
    assert committed(again) == [f"d{n}" for n in range(20)]
    assert await get(rag, f"{name}/documents/d3") == before


async def test_only_what_changed_is_embedded_again(rag: Platform) -> None:
    name = await rag.collection()
    properties = Struct()
    properties["year"] = 2020
    sent = [
        Doc(name="same", text="the same"),
        Doc(name="text", text="first words"),
        Doc(name="title", text="unchanged text", title="A"),
        Doc(name="properties", text="more text"),
        Doc(name="type", text="# heading"),
    ]
    await rag.upsert(name, sent)
    sent[1].text = "second words"
    sent[2].title = "B"
    sent[3].properties.CopyFrom(properties)
    sent[4].mime_type = "text/markdown"
    events = await rag.upsert(name, sent)
    assert counts(events[-1].finish) == (0, 4, 1, 0)
    assert events[-1].finish.embedded_chunk_count == 2
    assert (await get(rag, f"{name}/documents/title")).title == "B"
    assert (await get(rag, f"{name}/documents/properties")).properties == properties
    [hit] = [h for h in await rag.search(name, "second words") if "second" in h.text]
    assert hit.document.endswith("/text")
    assert not [h for h in await rag.search(name, "first words", top_k=50) if "first" in h.text]


async def test_the_last_of_equal_names_wins(rag: Platform) -> None:
    name = await rag.collection()
    await rag.upsert(name, [Doc(name="a", text="one")])
    sent = [Doc(name="a", text=text) for text in ("two", "one", "three", "two", "one")]
    events = await rag.upsert(name, [*sent, Doc(name="b", text="x"), sent[-1]])
    assert (await get(rag, f"{name}/documents/a")).text == "one"
    assert committed(events) == ["a"] * 5 + ["b", "a"]
    assert sum(counts(events[-1].finish)) == 7
    hits = await rag.search(name, "one two three", top_k=50)
    assert sorted(h.text for h in hits) == ["one", "x"]


async def test_what_is_refused_is_told_and_the_rest_is_stored(rag: Platform) -> None:
    schema = collection_pb.PropertySchema(
        name="year", type=collection_pb.PropertySchema.TYPE_INT64, required=True
    )
    name = await rag.collection(properties=[schema])

    def document(id: str, year: object, **values: object) -> document_pb.Document:
        made = Doc(name=id, **{"text": "words", **values})
        if year is not None:
            made.properties["year"] = year
        return made

    sent = [
        document("good-1", 1),
        document("wrong", "x"),
        document("missing", None),
        document("good-2", "9007199254740993"),
        document("title", 1, title="x" * 1025),
        document("empty", 1, text="  \n"),
        document("\0", 1),
        document("nul", 1, text="a\0b"),
        document("tenants/default/collections/other/documents/x", 1),
        document("image", 1, mime_type="image/png"),
        Doc(name="nothing"),
        Doc(name="pdf", data=b"%PDF-1.4 broken"),
        document("good-3", 3.0),
    ]
    sent[11].properties["year"] = 1
    events = await rag.upsert(name, sent)
    refused = {
        e.rejected.index: reason(e.rejected.status) for e in events if e.HasField("rejected")
    }
    assert refused == {
        1: ("INVALID_ARGUMENT", "document.properties.year"),
        2: ("MISSING_FIELD", "document.properties.year"),
        4: ("INVALID_ARGUMENT", "document.title"),
        5: ("INVALID_ARGUMENT", "document.text"),
        6: ("INVALID_ARGUMENT", "document.name"),
        7: ("INVALID_ARGUMENT", "document.text"),
        8: ("INVALID_ARGUMENT", "document.name"),
        9: ("INVALID_ARGUMENT", "document.mime_type"),
        10: ("MISSING_FIELD", "document.text"),
        11: ("INVALID_ARGUMENT", "document.data"),
    }
    assert committed(events) == ["good-1", "good-2", "good-3"]
    assert counts(events[-1].finish) == (3, 0, 0, 10)
    names = {e.rejected.index: e.rejected.name for e in events if e.HasField("rejected")}
    assert names[1] == f"{name}/documents/wrong"
    kept = await get(rag, f"{name}/documents/good-2")
    assert kept.properties["year"] == "9007199254740993"
    assert (await get(rag, f"{name}/documents/good-3")).properties["year"] == 3.0


async def test_fail_fast_ends_at_the_first_that_is_refused(rag: Platform) -> None:
    name = await rag.collection()
    sent = [Doc(name="a", text="x"), Doc(name="bad", text=" "), Doc(name="c", text="x")]
    requests = upserts(name, sent, fail_fast=True)
    events, error = await broken(rag.stub.UpsertDocuments(requests, metadata=USER))
    assert reason(error) == ("INVALID_ARGUMENT", "document.text")
    assert "Document 1 was refused" in (error.details() or "")
    assert [e.rejected.index for e in events if e.HasField("rejected")] == [1]
    assert committed(events) == ["a"]
    assert [e.committed.settled_count for e in events if e.HasField("committed")] == [2]
    with pytest.raises(grpc.aio.AioRpcError):
        await get(rag, f"{name}/documents/c")


async def test_whole_documents_that_are_too_long_are_refused(rag: Platform) -> None:
    name = await rag.collection(chunking=collection_pb.Chunking(whole_documents=True))
    events = await rag.upsert(
        name, [Doc(name="long", text="word " * 300), Doc(name="short", text="word " * 100)]
    )
    [rejected] = [e.rejected for e in events if e.HasField("rejected")]
    assert rejected.index == 0
    assert reason(rejected.status) == ("CONTEXT_LENGTH_EXCEEDED", "document.text")
    assert (await get(rag, f"{name}/documents/short")).chunk_count == 1


BEGINNINGS = [
    (lambda name: [], ("INVALID_ARGUMENT", "start")),
    (lambda name: upserts(name, [Doc(name="a", text="x")])[1:], ("INVALID_ARGUMENT", "start")),
    (lambda name: upserts(name, []) * 2, ("INVALID_ARGUMENT", "start")),
    (lambda name: upserts("x", []), ("INVALID_ARGUMENT", "start.collection")),
    (lambda name: upserts(f"{PARENT}/collections/x", []), ("NOT_FOUND", "")),
    (
        lambda name: upserts(name, [], priority=priority_pb.PRIORITY_HIGH),
        ("PERMISSION_DENIED", "start.priority"),
    ),
    (lambda name: [*upserts(name, []), pb.UpsertDocumentsRequest()], None),
]


async def test_a_stream_begins_with_one_start(rag: Platform) -> None:
    name = await rag.collection()
    for build, expected in BEGINNINGS:
        call = rag.stub.UpsertDocuments(build(name), metadata=USER)
        if expected is None:
            events = [event async for event in call]
            assert counts(events[-1].finish) == (0, 0, 0, 1), (
                "a piece with nothing in it is refused"
            )
            continue
        _, error = await broken(call)
        assert reason(error)[0] == expected[0]
        assert reason(error)[1] == expected[1]


async def test_a_second_start_comes_too_late_for_what_went_before(rag: Platform) -> None:
    name = await rag.collection()
    requests = [*upserts(name, [Doc(name="a", text="x")]), upserts(name, [])[0]]
    events, _ = await broken(rag.stub.UpsertDocuments(requests, metadata=USER))
    assert committed(events) == ["a"], "settled and told before the stream fails"
    assert (await get(rag, f"{name}/documents/a")).text == "x"


async def test_what_is_stored_is_told_while_the_stream_waits(rag: Platform) -> None:
    name = await rag.collection()
    told = asyncio.Event()

    async def requests() -> AsyncIterator[pb.UpsertDocumentsRequest]:
        for request in upserts(name, [Doc(name="a", text="x")]):
            yield request
        await told.wait()
        yield pb.UpsertDocumentsRequest(document=Doc(name="b", text="y"))

    events = []
    async for event in rag.stub.UpsertDocuments(requests(), metadata=USER):
        events.append(event)
        told.set()
    assert [e.committed.settled_count for e in events if e.HasField("committed")] == [1, 2]
    assert counts(events[-1].finish) == (2, 0, 0, 0)


async def test_a_broken_stream_goes_on_after_what_was_settled(rag: Platform) -> None:
    name = await rag.collection()
    sent = [Doc(name=f"d{n:03}", text=f"text {n} " * 30) for n in range(300)]
    broken = asyncio.Event()

    async def requests() -> AsyncIterator[pb.UpsertDocumentsRequest]:
        for request in upserts(name, sent):
            yield request
        await broken.wait()

    call = rag.stub.UpsertDocuments(requests(), metadata=USER)
    settled = 0
    async for event in call:
        settled = event.committed.settled_count
        call.cancel()
        break
    assert 0 < settled <= 300
    rest = await rag.upsert(name, sent[settled:])
    assert counts(rest[-1].finish)[3] == 0
    collection = await rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)
    assert collection.document_count == 300
    again = await rag.upsert(name, sent)
    assert counts(again[-1].finish) == (0, 0, 300, 0)


async def test_a_deleted_collection_takes_no_more(rag: Platform) -> None:
    name = await rag.collection()
    deleted = asyncio.Event()

    async def requests() -> AsyncIterator[pb.UpsertDocumentsRequest]:
        for request in upserts(name, [Doc(name="a", text="x")]):
            yield request
        await deleted.wait()
        yield pb.UpsertDocumentsRequest(document=Doc(name="b", text="y"))

    call = rag.stub.UpsertDocuments(requests(), metadata=USER)
    assert (await call.read()).committed.settled_count == 1
    await rag.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name), metadata=USER)
    await rag.collection()  # a namesake
    deleted.set()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    collection = await rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)
    assert collection.document_count == 0


async def test_two_streams_at_once_store_everything(rag: Platform) -> None:
    name = await rag.collection()
    halves = [[Doc(name=f"{side}{n}", text=f"{side} {n}") for n in range(150)] for side in "ab"]
    results = await asyncio.gather(*(rag.upsert(name, half) for half in halves))
    assert [counts(events[-1].finish) for events in results] == [(150, 0, 0, 0)] * 2
    collection = await rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)
    assert (collection.document_count, collection.chunk_count) == (300, 300)


async def test_a_deadline_ends_a_stream(rag: Platform) -> None:
    name = await rag.collection()
    forever = asyncio.Event()

    async def requests() -> AsyncIterator[pb.UpsertDocumentsRequest]:
        for request in upserts(name, [Doc(name="a", text="x")]):
            yield request
        await forever.wait()

    _, error = await broken(rag.stub.UpsertDocuments(requests(), metadata=USER, timeout=1.0))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_that_fails_early_tells_why_though_it_is_still_being_sent(
    rag: Platform,
) -> None:
    sent = [Doc(name=str(n), text="words " * 50) for n in range(500)]
    for _ in range(5):
        requests = upserts(f"{PARENT}/collections/none", sent)
        _, error = await broken(rag.stub.UpsertDocuments(requests, metadata=USER))
        assert reason(error)[0] == "NOT_FOUND"

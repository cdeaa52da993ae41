"""Documents, the same in every database."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from services.errors import InvalidArgument, NotFound
from services.retrieval.records import Document, Fingerprint, Lookup, Outcome, Page, SearchMode
from services.retrieval.store import Store
from tests.conformance.retrieval.records_made import (
    NOW,
    collection,
    compare,
    document,
    schema,
    vector,
)

ODD_PROPERTIES = {
    "plain": "text",
    'quo"te': 1,
    "back\\slash": 2,
    "per%cent%22": 3,
    "tab\t": 4,
    "": 5,
    "ünï 🙂": [1, 2.5, None, True, {"a": {"b": '\\ " \n'}}],
    "$.a[0]": {"deep": [[]]},
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "int": 2**63 - 1,
    "minus": -(2**63),
    "null": None,
}


def fingerprint_of(new) -> Fingerprint:
    return Fingerprint(new.content_sha256, new.title, new.mime_type, new.properties, new.source_uri)


def stored(new, *, created=NOW, updated=NOW, text=True) -> Document:
    return Document(
        id=new.id,
        title=new.title,
        text=new.text if text else "",
        mime_type=new.mime_type,
        properties=new.properties,
        source_uri=new.source_uri,
        content_sha256=new.content_sha256,
        chunk_count=len(new.chunks),
        token_count=new.token_count,
        create_time=created,
        update_time=updated,
    )


async def counts(store: Store, tenant: str) -> tuple[int, int]:
    found = await store.collection(tenant, "c")
    return found.document_count, found.chunk_count


async def test_what_is_put_comes_back(store, tenant):
    made = await store.create_collection(collection(tenant))
    news = [
        document("a/b/ü.md", ["first text 🙂", "second"], properties=ODD_PROPERTIES),
        document("empty", []),
    ]
    assert list(await store.put_documents(made.uid, news)) == [Outcome.CREATED] * 2
    for new in news:
        assert await store.document(made.uid, new.id) == stored(new)
    listed = await store.documents(made.uid, Page(5), with_text=False)
    assert list(listed) == [stored(new, text=False) for new in reversed(news)]
    with_text = await store.documents(made.uid, Page(5, descending=False), with_text=True)
    assert list(with_text) == [stored(new) for new in news]
    wanted = {new.id: fingerprint_of(new) for new in news}
    assert await store.fingerprints(made.uid, ["a/b/ü.md", "empty", "unknown"]) == wanted
    with pytest.raises(NotFound):
        await store.document(made.uid, "unknown")
    assert list(await store.put_documents(made.uid, [])) == []


async def test_replacing_takes_the_old_chunks_away(store, other, tenant, clock):
    made = await store.create_collection(collection(tenant))
    old = document("a", ["alpha", "beta", "gamma"])
    kept = document("b", ["delta"])
    await store.put_documents(made.uid, [old, kept])
    before = await store.collection(tenant, "c")
    assert len(await other.search(made, Lookup(9, vector(1, 0, 0, 0)))) == 4
    clock.forward(1)
    new = document("a", ["epsilon"], title="new", properties={"p": 1})
    outcomes = await store.put_documents(made.uid, [new, document("c", ["zeta"])])
    assert list(outcomes) == [Outcome.REPLACED, Outcome.CREATED]
    assert await store.document(made.uid, "a") == stored(new, updated=clock.now)
    for reader in (store, other):
        hits = await reader.search(made, Lookup(9, vector(1, 0, 0, 0)))
        assert [hit.text for hit in hits] == ["epsilon", "delta", "zeta"]
        gone = Lookup(9, text="alpha beta gamma", mode=SearchMode.TEXT)
        assert list(await reader.search(made, gone)) == []
    after = await store.collection(tenant, "c")
    assert (after.document_count, after.chunk_count) == (3, 3)
    assert (after.update_time, after.etag) == (clock.now, before.etag)


async def test_counts_and_sizes_go_back_to_nothing(store, tenant):
    made = await store.create_collection(collection(tenant))
    await store.put_documents(made.uid, [document("a", ["some text"])])
    one = (await store.collection(tenant, "c")).size_bytes
    assert one >= len("some text") * 2 + 16
    await store.put_documents(made.uid, [document("b", ["some text"]), document("a", ["x", "y"])])
    assert await counts(store, tenant) == (2, 3)
    assert await store.delete_documents(made.uid, ids=["a", "b", "unknown", "a"]) == 2
    assert await counts(store, tenant) == (0, 0)
    assert (await store.collection(tenant, "c")).size_bytes == 0
    await store.put_documents(made.uid, [document("a", ["some text"])])
    assert (await store.collection(tenant, "c")).size_bytes == one


async def test_updates_leave_content_and_chunks(store, tenant, clock):
    made = await store.create_collection(collection(tenant))
    news = [document("a", ["one"]), document("b", ["two"])]
    await store.put_documents(made.uid, news)
    clock.forward(1)
    changed = replace(news[0], title="T", properties={"x": 1}, source_uri="u", mime_type="m")
    stale = replace(fingerprint_of(news[1]), content_sha256="0" * 64, title="lost")
    updates = {"a": fingerprint_of(changed), "b": stale, "unknown": stale}
    await store.update_documents(made.uid, updates)
    assert await store.document(made.uid, "a") == stored(changed, updated=clock.now)
    # It was put in anew meanwhile, which says more.
    assert await store.document(made.uid, "b") == stored(news[1])
    hits = await store.search(made, Lookup(9, vector(1, 0, 0, 0), filter=compare("x", "EQUAL", 1)))
    assert [(hit.title, hit.source_uri, hit.text) for hit in hits] == [("T", "u", "one")]


async def test_a_deleted_document_is_never_found_again(store, other, tenant):
    made = await store.create_collection(collection(tenant, properties=schema(n="INT64")))
    news = [document(f"d{n}", [f"word{n} all"], properties={"n": n}) for n in range(20)]
    await store.put_documents(made.uid, news)
    by_vector = Lookup(50, vector(1, 0, 0, 0))
    by_words = Lookup(50, text="all", mode=SearchMode.TEXT)

    async def found(reader: Store) -> list[set[str]]:
        lookups = (by_vector, by_words, replace(by_vector, exact=True))
        return [{hit.document for hit in await reader.search(made, one)} for one in lookups]

    left = {new.id for new in news}
    assert await found(other) == [left] * 3
    for delete in (
        {"ids": ["d0", "d7"]},
        {"filter": compare("n", "GREATER_OR_EQUAL", 15)},
        {"filter": compare("id", "IN", ["d1", "d2"])},
        {"ids": sorted(left)},
    ):
        gone = await store.delete_documents(made.uid, **delete)
        listed = await store.documents(made.uid, Page(100), with_text=False)
        now = {document.id for document in listed}
        assert len(left) - len(now) == gone > 0
        left = now
        assert await found(other) == await found(store) == [left] * 3
    assert await store.delete_documents(made.uid, ids=["d0"]) == 0


async def test_deletes_are_all_or_none(store, tenant):
    made = await store.create_collection(collection(tenant, properties=schema(n="INT64")))
    await store.put_documents(made.uid, [document("a", properties={"n": 1})])
    with pytest.raises(InvalidArgument):
        await store.delete_documents(made.uid, filter=compare("n", "EQUAL", "text"))
    assert await counts(store, tenant) == (1, 1)


async def test_pages_of_documents(store, tenant, clock):
    made = await store.create_collection(collection(tenant))
    for ids in (["b", "a"], ["A", "z/y"]):
        await store.put_documents(made.uid, [document(id) for id in ids])
        clock.forward(1)
    for descending, wanted in ((False, ["a", "b", "A", "z/y"]), (True, ["z/y", "A", "b", "a"])):
        seen: list[str] = []
        while page := await store.documents(
            made.uid, Page(3, seen[-1] if seen else "", descending), with_text=False
        ):
            seen += [found.id for found in page]
        assert seen == wanted
    with pytest.raises(InvalidArgument):
        await store.documents(made.uid, Page(2, "unknown"), with_text=False)
    last = await store.document(made.uid, "A")
    await store.delete_documents(made.uid, ids=["A"])
    for descending, wanted in ((False, ["z/y"]), (True, ["b", "a"])):
        page = Page(9, "A", descending, last.create_time)
        rest = await store.documents(made.uid, page, with_text=False)
        assert [found.id for found in rest] == wanted


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (document("a\0"), "documents[1].name"),
        (document(""), "documents[1].name"),
        (document("a", ["x\0y"]), "documents[1].text"),
        (document("a", title="\ud800"), "documents[1].title"),
        (document("a", properties={"p": "\0"}), "documents[1].properties.p"),
        (document("a", properties={"p": {"\0": 1}}), "documents[1].properties.p"),
        (document("a", properties={"p": [float("nan")]}), "documents[1].properties.p"),
        (document("a", properties={"p": float("inf")}), "documents[1].properties.p"),
        (document("a", properties={"p": 2**63}), "documents[1].properties.p"),
        (document("a", ["x"], [vector(1, 2, 3)]), "documents[1].chunks[0].vector"),
        (document("a", ["x"], [vector(1, 2, 3, float("nan"))]), "documents[1].chunks[0].vector"),
    ],
)
async def test_what_cannot_be_kept_is_refused_and_nothing_is_stored(store, tenant, new, field):
    made = await store.create_collection(collection(tenant))
    with pytest.raises(InvalidArgument) as refused:
        await store.put_documents(made.uid, [document("fine"), new])
    assert refused.value.field == field
    assert await counts(store, tenant) == (0, 0)


async def test_writers_of_several_processes_take_turns(store, other, tenant):
    made = await store.create_collection(collection(tenant))

    async def write(writer: Store, name: str) -> None:
        for at in range(5):
            news = [document(f"{name}{at}", ["x", "y"]), document("shared", [name, name, name])]
            await writer.put_documents(made.uid, news)
            await writer.delete_documents(made.uid, ids=[f"{name}{at - 1}"])

    await asyncio.gather(*(write(writer, f"w{at}") for at, writer in enumerate([store, other] * 2)))
    assert await counts(store, tenant) == (5, 4 * 2 + 3)
    for reader in (store, other):
        hits = await reader.search(made, Lookup(50, vector(1, 0, 0, 0)))
        assert len(hits) == 11
        assert len({hit.text for hit in hits if hit.document == "shared"}) == 1


async def test_a_cancelled_write_leaves_nothing_and_blocks_nobody(store, tenant):
    made = await store.create_collection(collection(tenant))
    random = np.random.default_rng(1)
    whole = {(200 * times, 4000 * times) for times in range(5)}
    for pause in (0.0, 0.01, 0.03, 0.1):
        news = [
            document(
                f"{pause}-{at}",
                ["words"] * 20,
                list(random.normal(size=(20, 4)).astype(np.float32)),
            )
            for at in range(200)
        ]
        writing = asyncio.create_task(store.put_documents(made.uid, news))
        await asyncio.sleep(pause)
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        # Where it was under way it still may be, but nobody sees a part of it.
        assert await counts(store, tenant) in whole
    await store.put_documents(made.uid, [document("after")])
    documents, chunks = await counts(store, tenant)
    assert (documents - 1, chunks - 1) in whole


async def test_times_keep_microseconds(store, tenant):
    made = collection(tenant, create_time=NOW + timedelta(microseconds=1))
    assert (await store.create_collection(made)).create_time == made.create_time

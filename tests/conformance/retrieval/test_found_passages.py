"""Searches, the same in every database."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from services.errors import InvalidArgument
from services.retrieval.indexes.words import words
from services.retrieval.records import Lookup, Metric, NewDocument, SearchMode
from tests.conformance.retrieval.records_made import (
    collection,
    compare,
    document,
    schema,
    vector,
)

TEXTS = [
    "The sky on Mars is red.",
    "The sky on Earth is blue, and the sea is blue too.",
    "Red wine goes with red meat.",
    "Übermäßig ÄRGERLICH: naïve café",
    "火星の空は赤い",
    "quotes \" AND OR NOT ( ) * : ^ - + NEAR sky's",
    "word " * 300 + "sky",
    "nothing of interest",
]


def reference(metric: Metric, one: np.ndarray, two: np.ndarray) -> float:
    one, two = one.astype(np.float64), two.astype(np.float64)
    if metric is Metric.INNER_PRODUCT:
        return -float(one @ two)
    if metric is Metric.L2:
        return math.dist(one, two)
    lengths = np.linalg.norm(one) * np.linalg.norm(two)
    return 1 - float(one @ two) / lengths if lengths else 1.0


def score(metric: Metric, distance: float) -> float:
    if metric is Metric.COSINE:
        return 1 - distance / 2
    return 1 / (1 + (math.exp(distance) if metric is Metric.INNER_PRODUCT else distance))


@pytest.mark.parametrize("metric", list(Metric))
async def test_the_nearest_come_first(store, tenant, metric):
    random = np.random.default_rng(metric.value)
    made = await store.create_collection(collection(tenant, dimensions=24, metric=metric))
    vectors = random.normal(size=(300, 24)).astype(np.float32)
    news = [
        document(f"d{at:03}", ["a", "b", "c"], list(vectors[at * 3 : at * 3 + 3]), {"n": at % 10})
        for at in range(100)
    ]
    await store.put_documents(made.uid, news[:60])
    await store.search(made, Lookup(1, vectors[0]))  # what comes after is added to it
    await store.put_documents(made.uid, news[60:])
    await store.delete_documents(made.uid, ids=["d001", "d099"])
    await store.put_documents(made.uid, [replace(news[2], chunks=news[2].chunks[:2])])
    query = random.normal(size=24).astype(np.float32)
    alive = [
        (reference(metric, chunk.vector, query), new.id, chunk.index, new.properties["n"])
        for new in news
        for chunk in new.chunks
        if new.id not in {"d001", "d099"} and (new.id, chunk.index) != ("d002", 2)
    ]
    assert (await store.collection(tenant, "c")).chunk_count == len(alive) == 293
    for top_k, only, exact in ((10, None, True), (293, None, True), (7, 3, True), (40, 3, False)):
        condition = None if only is None else compare("n", "EQUAL", only)
        wanted = sorted(item for item in alive if only in (None, item[3]))[:top_k]
        lookup = Lookup(top_k, query, filter=condition, exact=exact, include_vectors=True)
        hits = await store.search(made, lookup)
        assert [(hit.document, hit.chunk_index) for hit in hits] == [w[1:3] for w in wanted]
        for hit, (distance, *_) in zip(hits, wanted, strict=True):
            assert hit.distance == pytest.approx(distance, abs=1e-5)
            assert hit.score == pytest.approx(score(metric, distance), abs=1e-5)
            new = news[int(hit.document[1:])]
            chunk = new.chunks[hit.chunk_index]
            assert np.array_equal(hit.vector, chunk.vector)
            assert (hit.text, hit.start_byte, hit.end_byte) == (
                chunk.text,
                chunk.start_byte,
                chunk.end_byte,
            )
            assert (hit.title, hit.properties, hit.source_uri) == (
                new.title,
                new.properties,
                new.source_uri,
            )
    assert (await store.search(made, Lookup(1, query)))[0].vector is None


async def test_ties_go_by_document_and_position(store, tenant):
    made = await store.create_collection(collection(tenant, dimensions=3))
    same = [vector(0.1, 0.7, 0.2)] * 3
    ids = [f"{letter}{at}" for letter in "zaM" for at in range(20)]
    await store.put_documents(made.uid, [document(id, ["x", "y", "z"], same) for id in ids])
    wanted = [(id, at) for id in sorted(ids) for at in range(3)]
    for mode, exact in ((SearchMode.VECTOR, True), (SearchMode.TEXT, True)):
        text = "x y z"
        lookup = Lookup(70, vector(1, 2, 3), text, mode, exact=exact)
        hits = await store.search(made, lookup)
        assert [(hit.document, hit.chunk_index) for hit in hits] == wanted[:70]


async def test_a_share_for_each_document(store, tenant):
    made = await store.create_collection(collection(tenant, dimensions=2))
    near = [vector(1, at / 1000) for at in range(200)]
    far = [document(f"far{at}", ["word other"], [vector(1, 1 + at)]) for at in range(5)]
    await store.put_documents(made.uid, [document("near", ["word"] * 200, near), *far])
    for mode in SearchMode:
        lookup = Lookup(5, vector(1, 0), "word", mode, max_hits_per_document=2)
        hits = await store.search(made, lookup)
        assert len(hits) == 5
        assert Counter(hit.document for hit in hits)["near"] == 2
        lookup = replace(lookup, top_k=50)
        assert len(await store.search(made, lookup)) == 7
        lookup = replace(lookup, max_hits_per_document=None)
        assert len(await store.search(made, lookup)) == 50


def bm25(news: list[NewDocument], query: str) -> list[tuple[float, str]]:
    """By the book, with the numbers of SQLite's FTS5."""
    bags = {new.id: Counter(words(new.text)) for new in news}
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    weights: dict[str, float] = {}
    for word in words(query):
        having = sum(word in bag for bag in bags.values())
        weights[word] = max(math.log((len(bags) - having + 0.5) / (having + 0.5)), 1e-6)
    found: list[tuple[float, str]] = []
    for id, bag in bags.items():
        total = 0.0
        for word, weight in weights.items():
            times = min(bag[word], 255)
            total += weight * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * bag.total() / mean))
        if total:
            found.append((total / (1 + total), id))
    return sorted(found, key=lambda item: (-item[0], item[1]))


@pytest.mark.parametrize(
    "query",
    [
        "mars",
        "What color is the SKY on Mars?",
        "red",
        "ubermaßig argerlich naive CAFÉ",
        "火星",
        "赤",
        '" OR * NOT (',
        "near: ^sky AND -red",
        "sky's",
        "unknown",
        "... !!",
        "\0red\ud800",
        "word " * 1000,
        "'; DROP TABLE retrieval_documents; --",
    ],
)
async def test_words_are_ranked_by_bm25(store, tenant, query):
    made = await store.create_collection(collection(tenant))
    news = [document(f"d{at}", [text]) for at, text in enumerate(TEXTS)]
    await store.put_documents(made.uid, news)
    hits = await store.search(made, Lookup(50, text=query, mode=SearchMode.TEXT))
    wanted = bm25(news, query)
    assert [hit.document for hit in hits] == [id for _, id in wanted]
    for hit, (expected, _) in zip(hits, wanted, strict=True):
        assert hit.score == pytest.approx(expected, rel=0.01)
        assert hit.distance is None


@pytest.mark.parametrize("top_k", [1, 3, 20, 400])
async def test_common_words_are_weighed_too(store, tenant, top_k):
    made = await store.create_collection(collection(tenant))
    random = np.random.default_rng(top_k)
    news = [
        document(f"d{at:03}", [" ".join(f"w{n}" for n in random.geometric(0.2, 12))])
        for at in range(300)
    ]
    await store.put_documents(made.uid, news)
    for query in ("w1 w2 w3", "w1 w2 w9 w14", "w2 w20 w4", "w1"):
        wanted = bm25(news, query)
        hits = await store.search(made, Lookup(top_k, text=query, mode=SearchMode.TEXT))
        scores = {id: score for score, id in wanted}
        assert [hit.score for hit in hits] == pytest.approx([one for one, _ in wanted[:top_k]])
        # Some differ only by rounding, so they may have changed places.
        found = {hit.document: hit.score for hit in hits}
        assert found == pytest.approx({id: scores[id] for id in found})


async def test_words_of_other_collections_change_nothing(store, tenant):
    made = await store.create_collection(collection(tenant))
    await store.put_documents(
        made.uid, [document(str(at), [text]) for at, text in enumerate(TEXTS)]
    )
    lookup = Lookup(9, text="sky red", mode=SearchMode.TEXT)
    before = await store.search(made, lookup)
    busy = await store.create_collection(collection(f"{tenant}-2"))
    await store.put_documents(busy.uid, [document(str(at), ["sky sky sky"]) for at in range(50)])
    assert await store.search(made, lookup) == before


async def test_both_ways_together(store, tenant):
    made = await store.create_collection(collection(tenant, dimensions=2))
    news = [
        document("both", ["sky red"], [vector(1, 0)]),
        document("near", ["other"], [vector(1, 0.1)]),
        document("words", ["red"], [vector(0, 1)]),
        document("neither", ["else"], [vector(-1, 0)], {"n": 1}),
    ]
    await store.put_documents(made.uid, news)
    lookup = Lookup(9, vector(1, 0), "red sky", SearchMode.HYBRID)
    hits = await store.search(made, lookup)
    assert [hit.document for hit in hits] == ["both", "words", "near", "neither"]
    assert hits[0].score == 1
    # Second in one list and third in the other.
    assert hits[1].score == pytest.approx((1 / 62 + 1 / 63) / (2 / 61))
    assert hits[3].distance == pytest.approx(2)
    none = await store.search(made, replace(lookup, filter=compare("n", "EQUAL", 2)))
    assert list(none) == []
    one = await store.search(made, replace(lookup, filter=compare("n", "EQUAL", 1)))
    assert [hit.document for hit in one] == ["neither"]
    assert len(await store.search(made, replace(lookup, top_k=1))) == 1


@pytest.mark.parametrize("metric", list(Metric))
async def test_vectors_without_direction_or_measure(store, tenant, metric):
    made = await store.create_collection(collection(tenant, dimensions=2, metric=metric))
    odd = {
        "zero": vector(0, 0),
        "large": vector(1e30, 0),
        "small": vector(0, 1e-30),
        "one": vector(1, 0),
        "back": vector(-1, 0),
    }
    await store.put_documents(made.uid, [document(id, ["x"], [v]) for id, v in odd.items()])
    for query in (vector(0, 0), vector(1, 0), vector(0, 3e30)):
        hits = await store.search(made, Lookup(9, query, exact=True))
        assert {hit.document for hit in hits} == set(odd)
        for hit in hits:
            wanted = reference(metric, odd[hit.document], query)
            assert hit.distance == pytest.approx(wanted, rel=1e-6, abs=1e-6)
            assert 0 <= hit.score <= 1
    hits = await store.search(made, Lookup(9, vector(1, 0)))
    assert {hit.document for hit in hits} == set(odd)


async def test_what_cannot_be_looked_for(store, tenant):
    made = await store.create_collection(collection(tenant, properties=schema(n="INT64")))
    assert list(await store.search(made, Lookup(5, vector(1, 0, 0, 0)))) == []
    await store.put_documents(made.uid, [document("a")])
    for lookup in (
        Lookup(5, vector(1, 0)),
        Lookup(5, vector(1, 0, 0, float("inf"))),
        Lookup(5),
        Lookup(5, text="x", mode=SearchMode.HYBRID),
        Lookup(5, vector(1, 0, 0, 0), filter=compare("n", "EQUAL", "x")),
        Lookup(5, vector(1, 0, 0, 0), filter=compare("x", "EQUAL", "\0")),
    ):
        with pytest.raises(InvalidArgument):
            await store.search(made, lookup)


@pytest.mark.parametrize("dimensions", [1, 1999, 2001, 4001, 16_000])
async def test_vectors_of_any_length(store, kind, tenant, dimensions):
    random = np.random.default_rng(dimensions)
    made = await store.create_collection(collection(tenant, dimensions=dimensions))
    vectors = random.normal(size=(12, dimensions)).astype(np.float32)
    news = [document(f"d{at:02}", ["x " * 900], [v]) for at, v in enumerate(vectors)]
    await store.put_documents(made.uid, news)
    for new, asked in zip(news, vectors, strict=True):
        nearest = (await store.search(made, Lookup(1, asked)))[0]
        assert nearest.distance == pytest.approx(0, abs=1e-6)
        assert dimensions == 1 or nearest.document == new.id


async def test_vectors_that_the_database_has_no_room_for(store, kind, tenant):
    long = collection(tenant, dimensions=16_001)
    if kind.name.startswith("postgres"):
        with pytest.raises(InvalidArgument, match="16000"):
            await store.create_collection(long)
        assert await store.create_collection(collection(tenant)) is not None
    else:
        await store.create_collection(long)

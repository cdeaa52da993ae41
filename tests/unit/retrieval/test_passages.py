"""Splitting and embedding, against an embedder that refuses what is too long."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from services.errors import (
    ContextLengthExceeded,
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    QueueFull,
    Unavailable,
)
from services.retrieval import passages as passages_module
from services.retrieval.batches import Batch, Ready, Text, Unchanged
from services.retrieval.intake import Draft, Refused
from services.retrieval.passages import Passages
from services.retrieval.peers import Priority
from services.retrieval.records import Chunking, Collection, Metric
from tests.unit.retrieval.word_embedder import ADDED, NOBODY, WordEmbedder, vector

SMALL = Chunking(32, 4)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def collection(chunking: Chunking = SMALL, dimensions: int = 64) -> Collection:
    return Collection(
        "t", "c", "uid", "m", dimensions, Metric.COSINE, "c", chunking, (), {}, NOW, NOW, "e"
    )


def text(content: str, index: int = 0) -> Text:
    sha = hashlib.sha256(content.encode()).hexdigest()
    draft = Draft(index, f"d{index}", "", content, "text/plain", {}, "", sha)
    return Text(draft, "", "text/plain", content)


def passages(
    embedder: WordEmbedder, chunking: Chunking = SMALL, call_tokens: int = 100
) -> Passages:
    return Passages(embedder, collection(chunking), Priority.LOW, NOBODY, call_tokens)


def words(count: int, first: int = 0) -> str:
    return " ".join(f"w{number}" for number in range(first, first + count))


async def test_chunks_cover_the_text_in_order_with_their_own_vectors() -> None:
    embedder = WordEmbedder()
    content = words(300)
    batch = await passages(embedder).embed(Batch([text(content)]))
    [ready] = batch.items
    assert isinstance(ready, Ready)
    chunks = ready.document.chunks
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    raw = content.encode()
    for chunk in chunks:
        assert raw[chunk.start_byte : chunk.end_byte].decode() == chunk.text
        assert np.allclose(chunk.vector, vector(chunk.text))
    assert {word for chunk in chunks for word in chunk.text.split()} == set(content.split())
    assert len(embedder.calls) > 1
    assert embedder.most_running > 1
    assert set(embedder.priorities) == {Priority.LOW}
    assert batch.token_count == sum(len(t.split()) + ADDED for call in embedder.calls for t in call)


async def test_a_text_counts_its_tokens_once_whatever_its_chunks_share() -> None:
    embedder = WordEmbedder()
    batch = await passages(embedder, Chunking(32, 16)).embed(Batch([text(words(300))]))
    [ready] = batch.items
    assert isinstance(ready, Ready)
    assert ready.document.token_count == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize("context_length", [3, 4, 7, 12])
async def test_what_the_model_refuses_is_halved_until_it_fits(context_length: int) -> None:
    embedder = WordEmbedder(context_length=context_length)
    content, other = words(120), "short"
    batch = await passages(embedder, call_tokens=1000).embed(Batch([text(content), text(other, 1)]))
    first, second = batch.items
    assert isinstance(first, Ready)
    assert isinstance(second, Ready)
    assert {w for c in first.document.chunks for w in c.text.split()} == set(content.split())
    assert all(len(c.text.split()) + ADDED <= context_length for c in first.document.chunks)
    assert [chunk.text for chunk in second.document.chunks] == [other]
    assert len(embedder.texts) == len(first.document.chunks) + 1, "nothing was embedded twice"


async def test_chunks_keep_the_collections_limit_in_the_models_own_tokens() -> None:
    """The estimate counts a row of single letters as one token for many."""
    embedder = WordEmbedder()
    content = ".".join("x" * 1 for _ in range(400))
    batch = await passages(embedder, Chunking(16, 0)).embed(Batch([text(content)]))
    [ready] = batch.items
    assert isinstance(ready, Ready)
    assert all(c.text.count("x") <= 16 for c in ready.document.chunks)
    assert sum(c.text.count("x") for c in ready.document.chunks) == 400


@pytest.mark.parametrize(
    ("chunking", "context_length"),
    [(Chunking(whole_documents=True), 20), (Chunking(20, whole_documents=True), 512)],
)
async def test_whole_documents_are_one_chunk_or_refused(
    chunking: Chunking, context_length: int
) -> None:
    embedder = WordEmbedder(context_length=context_length)
    items = [text(words(50)), text(words(10), 1)]
    batch = await passages(embedder, chunking).embed(Batch(items))
    refused, ready = batch.items
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, ContextLengthExceeded)
    assert refused.error.field == "document.text"
    assert isinstance(ready, Ready)
    assert [chunk.text for chunk in ready.document.chunks] == [words(10)]


async def test_a_passage_that_the_model_cannot_read_is_left_out() -> None:
    embedder = WordEmbedder()
    readable = f"{words(40)}\n\n{'- ' * 100}\n\n{words(40, 100)}"
    batch = await passages(embedder).embed(Batch([text(readable), text("- - -", 1)]))
    ready, refused = batch.items
    assert isinstance(ready, Ready)
    assert {"w0", "w139"} <= {w for c in ready.document.chunks for w in c.text.split()}
    assert isinstance(refused, Refused)
    assert (type(refused.error), refused.error.field) == (InvalidArgument, "document.text")


async def test_calls_shrink_where_the_service_takes_less_at_once() -> None:
    embedder = WordEmbedder(call_tokens=40)
    batch = await passages(embedder, call_tokens=10_000).embed(Batch([text(words(200))]))
    [ready] = batch.items
    assert isinstance(ready, Ready)
    assert {w for c in ready.document.chunks for w in c.text.split()} == set(words(200).split())


async def test_items_of_other_kinds_stay_where_they_are() -> None:
    items = [Unchanged(0, "a"), text("b", 1), Refused(2, "c", InvalidArgument("no"))]
    batch = await passages(WordEmbedder()).embed(Batch(items, pending=["a"]))
    assert [type(item) for item in batch.items] == [Unchanged, Ready, Refused]
    assert [item.index for item in batch.items] == [0, 1, 2]
    assert batch.pending == ["a"]


def failing(error: Exception, times: int = 1_000_000):
    left = [times]

    def before(texts: Sequence[str]) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return before


async def test_a_full_queue_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages_module, "_PAUSE_S", 0.001)
    embedder = WordEmbedder(before=failing(QueueFull("full", retry_after_s=0.0), 5))
    [ready] = (await passages(embedder).embed(Batch([text("hello")]))).items
    assert isinstance(ready, Ready)


@pytest.mark.parametrize(
    ("error", "expected", "field"),
    [
        (Unavailable("away"), Unavailable, None),
        (ModelNotFound("gone", field="model"), ModelNotFound, "start.collection"),
        (InvalidArgument("no", field="dimensions"), FailedPrecondition, "start.collection"),
        (InvalidArgument("no", field="priority"), InvalidArgument, "start.collection"),
    ],
)
async def test_what_is_no_documents_fault_ends_the_stream(
    error: Exception, expected: type[Exception], field: str | None
) -> None:
    embedder = WordEmbedder(before=failing(error))
    with pytest.raises(expected) as raised:
        await passages(embedder).embed(Batch([text(words(300))]))
    assert raised.value.field == field  # type: ignore[attr-defined]
    assert embedder.running == 0


async def test_a_full_queue_is_not_waited_for_beyond_the_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passages_module, "_PATIENCE_S", 0.0)
    with pytest.raises(QueueFull):
        await passages(WordEmbedder(before=failing(QueueFull("full")))).embed(Batch([text("a b")]))

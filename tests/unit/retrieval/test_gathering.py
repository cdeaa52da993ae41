"""Batches of a stream: in order, bounded, and no further ahead than needed."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.batches import Batch, End
from services.retrieval.gathering import MOST_DOCUMENTS, Gatherer
from services.retrieval.intake import Draft, Incoming, Refused
from services.retrieval.names import CollectionRef

REF = CollectionRef("t", "c")


async def stream(documents: Sequence[Incoming], end: Exception | None = None):
    for document in documents:
        yield document
    if end is not None:
        raise end


async def gathered(
    incoming: AsyncIterator[Incoming], most_bytes: int = 1000
) -> tuple[list[Batch], End]:
    out: asyncio.Queue[Batch | End] = asyncio.Queue()
    await Gatherer(REF, (), most_bytes, linger_s=60.0).run(incoming, out)
    *batches, end = [out.get_nowait() for _ in range(out.qsize())]
    assert isinstance(end, End)
    assert all(isinstance(batch, Batch) for batch in batches)
    return batches, end  # type: ignore[return-value]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.integers(0, 700)), max_size=30
    ),
    st.booleans(),
)
def test_every_document_is_in_one_batch_in_its_order(
    sent: list[tuple[str, int]], breaks: bool
) -> None:
    documents = [Incoming(name, content="x" * size) for name, size in sent]
    error = InvalidArgument("broken") if breaks else None
    batches, end = asyncio.run(gathered(stream(documents, error)))
    assert end.error is error
    items = [item for batch in batches for item in batch.items]
    assert [item.index for item in items] == list(range(len(sent)))
    for item, (name, size) in zip(items, sent, strict=True):
        assert item.id == name if name else item.id
        assert isinstance(item, Draft if size else Refused)
    for batch in batches:
        assert batch.items
        ids = [item.id for item in batch.items]
        assert len(set(ids)) == len(ids)
        sizes = [item.size_bytes for item in batch.items if isinstance(item, Draft)]
        assert sum(sizes) <= 1000 or len(sizes) == 1


async def test_a_batch_has_at_most_so_many_documents() -> None:
    batches, _ = await gathered(stream([Incoming(str(n), content="x") for n in range(600)]))
    assert [len(batch.items) for batch in batches] == [MOST_DOCUMENTS, MOST_DOCUMENTS, 88]


async def test_a_stream_is_not_read_while_nobody_takes_its_batches() -> None:
    taken = 0

    async def counted() -> AsyncIterator[Incoming]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield Incoming(str(number), content="x" * 100)

    out: asyncio.Queue[Batch | End] = asyncio.Queue(1)
    task = asyncio.create_task(Gatherer(REF, (), 1000).run(counted(), out))
    for _ in range(2000):
        await asyncio.sleep(0)
    # One batch waits to be taken, one waits to be put.
    assert taken <= 21
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_batch_goes_on_when_the_next_document_lets_wait() -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[Incoming]:
        yield Incoming("a", content="x")
        await more.wait()
        yield Incoming("b", content="x")

    out: asyncio.Queue[Batch | End] = asyncio.Queue()
    task = asyncio.create_task(Gatherer(REF, (), 1000, linger_s=0.01).run(slow(), out))
    first = await out.get()
    assert isinstance(first, Batch)
    assert [item.id for item in first.items] == ["a"]
    more.set()
    second, end = await out.get(), await out.get()
    assert isinstance(second, Batch)
    assert [(item.index, item.id) for item in second.items] == [(1, "b")]
    assert end == End(None)
    await task


async def test_a_document_refused_as_it_came_keeps_its_place() -> None:
    fault = InvalidArgument("bad", field="document.title")
    documents = [Incoming("a", content="x"), Incoming("b", fault=fault), Incoming("c", content="x")]
    [batch], _ = await gathered(stream(documents))
    refused = batch.items[1]
    assert isinstance(refused, Refused)
    assert (refused.index, refused.id, refused.error) == (1, "b", fault)


@pytest.mark.parametrize(
    "name", ["a\x00b", "a\nb", "x" * 1025, "tenants/t/collections/d/documents/a"]
)
async def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    [batch], _ = await gathered(stream([Incoming(name, content="x")]))
    [refused] = batch.items
    assert isinstance(refused, Refused)
    assert refused.error.field == "document.name"


async def test_a_long_document_is_read_like_a_short_one() -> None:
    text = "long " * 400_000
    documents = [
        Incoming("a", content="x"),
        Incoming("b", content=text),
        Incoming("c", content="x"),
    ]
    batches, end = await gathered(stream(documents))
    assert end.error is None
    items = [item for batch in batches for item in batch.items]
    assert [(item.index, item.id) for item in items] == [(0, "a"), (1, "b"), (2, "c")]
    long = items[1]
    assert isinstance(long, Draft)
    assert long.content_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert len(batches) == 3

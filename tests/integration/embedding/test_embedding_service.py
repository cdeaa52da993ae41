"""EmbeddingService over a socket: vectors, orders, and every refusal with its reason and field."""

# ruff: noqa: ASYNC110 - engines tell their counts, not when they change
import asyncio
import struct
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as pb
from penstock.inference.v1 import priority_pb2, queue_pb2

from tests.integration.embedding.embedding_platform import OTHER, USER, Platform, request
from tests.integration.reasons import reason

DIMENSIONS = 64
CONTEXT = 512
LONG = "word " * 600


def numbers(values: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(values) // 4}f", values)


def norm(values: bytes) -> float:
    return sum(number**2 for number in numbers(values)) ** 0.5


def rerank(query: str, *documents: str, **more: Any) -> pb.RerankRequest:
    return pb.RerankRequest(query=query, documents=documents, **more)


async def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)


async def test_vectors_in_the_order_of_inputs(platform: Platform) -> None:
    texts = ["one", "two words", "one", "three more words"]
    answer = await platform.embedding.Embed(request(*texts, model="org/alias"), metadata=USER)
    assert answer.model == "echo"
    assert [each.index for each in answer.embeddings] == [0, 1, 2, 3]
    assert [each.dimensions for each in answer.embeddings] == [DIMENSIONS] * 4
    assert [each.token_count for each in answer.embeddings] == [3, 4, 3, 5]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (15, 15)
    values = [each.values for each in answer.embeddings]
    assert values[0] == values[2] != values[1]
    assert all(norm(each) == pytest.approx(1, abs=1e-5) for each in values)
    assert answer.fingerprint.startswith("fp_")
    alone = await platform.embedding.Embed(request("two words"), metadata=USER)
    assert alone.embeddings[0].values == values[1]
    assert alone.fingerprint == answer.fingerprint


async def test_shorter_vectors_are_scaled_again(platform: Platform) -> None:
    async def values(**more: Any) -> bytes:
        answer = await platform.embedding.Embed(request("a b c", **more), metadata=USER)
        return answer.embeddings[0].values

    whole, raw = await values(), await values(normalize=False)
    assert await values(dimensions=DIMENSIONS) == whole
    assert norm(raw) > 1.1
    short = await values(dimensions=8)
    assert norm(short) == pytest.approx(1, abs=1e-5)
    factor = norm(raw[: 8 * 4])
    assert numbers(short) == pytest.approx([each / factor for each in numbers(raw)[:8]], abs=1e-6)
    assert await values(dimensions=8, normalize=False) == raw[: 8 * 4]


async def test_prefixes(platform: Platform) -> None:
    async def counted(**more: Any) -> int:
        answer = await platform.embedding.Embed(request("a", **more), metadata=USER)
        return answer.usage.prompt_tokens

    assert await counted() == 3
    assert await counted(task=embedding_pb2.EMBEDDING_TASK_QUERY) == 4
    assert await counted(task=embedding_pb2.EMBEDDING_TASK_CLUSTERING) == 3, "it has none for that"
    assert await counted(prompt_name="document") == 4


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        (embedding_pb2.TRUNCATION_KEEP_START, "a " * 510),
        (embedding_pb2.TRUNCATION_KEEP_END, "b " * 510),
    ],
)
@pytest.mark.parametrize("count", [600, 20_000])
async def test_long_inputs_are_cut(
    platform: Platform, truncation: Any, kept: str, count: int
) -> None:
    long = "a " * count + "b " * count
    answer = await platform.embedding.Embed(
        request(long, "a", truncation=truncation), metadata=USER
    )
    assert [each.truncated for each in answer.embeddings] == [True, False]
    assert answer.embeddings[0].token_count == CONTEXT
    same = await platform.embedding.Embed(request(kept), metadata=USER)
    assert same.embeddings[0].values == answer.embeddings[0].values


REFUSED: list[tuple[pb.EmbedRequest, tuple[str, str]]] = [
    (request("a", model="none"), ("MODEL_NOT_FOUND", "model")),
    (request("a", model="loading"), ("MODEL_NOT_READY", "model")),
    (request("a", model="broken"), ("MODEL_NOT_READY", "model")),
    (request("a", model="talker"), ("INVALID_ARGUMENT", "model")),
    (request("a", model="cross"), ("INVALID_ARGUMENT", "model")),
    (request(), ("MISSING_FIELD", "inputs")),
    (request("a", ""), ("INVALID_ARGUMENT", "inputs[1].text")),
    (request("a", []), ("INVALID_ARGUMENT", "inputs[1].token_ids.ids")),
    (request("a", [-1]), ("INVALID_ARGUMENT", "inputs[1].token_ids.ids[0]")),
    (request("a", [5, 32_768]), ("INVALID_ARGUMENT", "inputs[1].token_ids.ids[1]")),
    (request("a", LONG), ("CONTEXT_LENGTH_EXCEEDED", "inputs[1]")),
    (request("a", LONG * 1000), ("CONTEXT_LENGTH_EXCEEDED", "inputs[1]")),
    (request("a", [5] * 511), ("CONTEXT_LENGTH_EXCEEDED", "inputs[1]")),
    (request(*["a " * 500] * 61), ("INVALID_ARGUMENT", "inputs")),
    (request("a", dimensions=65), ("INVALID_ARGUMENT", "dimensions")),
    (request("a", dimensions=0), ("INVALID_ARGUMENT", "dimensions")),
    (request("a", prompt_name="nope"), ("INVALID_ARGUMENT", "prompt_name")),
    (request("a", priority=priority_pb2.PRIORITY_HIGH), ("PERMISSION_DENIED", "priority")),
]


@pytest.mark.parametrize(("asked", "want"), REFUSED)
async def test_refusals_name_the_field(
    platform: Platform, asked: pb.EmbedRequest, want: tuple[str, str]
) -> None:
    assert await refusal(platform.embedding.Embed(asked, metadata=USER)) == want


async def test_credentials(platform: Platform) -> None:
    assert (await refusal(platform.embedding.Embed(request("a"))))[0] == "MISSING_CREDENTIALS"


async def test_reranking_by_a_cross_encoder_where_there_is_one(platform: Platform) -> None:
    documents = ["the sea", "the sky on mars", "mars", "sky mars", "mars sky"]
    answer = await platform.embedding.Rerank(rerank("sky mars", *documents), metadata=USER)
    assert answer.model == "cross"
    assert answer.method == embedding_pb2.RERANK_METHOD_CROSS_ENCODER
    # Three have both words: equal scores stay in the order of the request.
    assert [result.index for result in answer.results] == [1, 3, 4, 2, 0]
    assert [result.relevance_score for result in answer.results] == [1, 1, 1, 0.5, 0]
    assert answer.usage.prompt_tokens == sum(len(text.split()) + 5 for text in documents)
    best = await platform.embedding.Rerank(rerank("sky", *documents, top_n=2), metadata=USER)
    assert [result.index for result in best.results] == [1, 3]


async def test_reranking_by_similarity(platform: Platform) -> None:
    documents = ["the sea", "the sky on mars", "sky mars"]
    answer = await platform.embedding.Rerank(
        rerank("sky mars", *documents, model="echo"), metadata=USER
    )
    assert answer.method == embedding_pb2.RERANK_METHOD_EMBEDDING_SIMILARITY
    assert [result.index for result in answer.results] == [2, 1, 0]
    scores = [result.relevance_score for result in answer.results]
    assert min(scores) >= 0
    assert max(scores) <= 1


@pytest.mark.parametrize("model", ["cross", "echo"])
async def test_long_documents(platform: Platform, model: str) -> None:
    asked = rerank("word", "word", LONG, model=model)
    want = ("CONTEXT_LENGTH_EXCEEDED", "documents[1]")
    assert await refusal(platform.embedding.Rerank(asked, metadata=USER)) == want
    asked.max_tokens_per_document = 599  # still more than the model takes
    assert await refusal(platform.embedding.Rerank(asked, metadata=USER)) == want
    for change in ({"max_tokens_per_document": 10}, {"truncation": 2}, {"truncation": 3}):
        shortened = rerank("word", "word", LONG, model=model, **change)
        answer = await platform.embedding.Rerank(shortened, metadata=USER)
        assert {r.index: r.truncated for r in answer.results} == {0: False, 1: True}
    assert await refusal(
        platform.embedding.Rerank(rerank(LONG, "word", model=model, truncation=2), metadata=USER)
    ) == ("CONTEXT_LENGTH_EXCEEDED", "query")


RERANK_REFUSED: list[tuple[pb.RerankRequest, tuple[str, str]]] = [
    (rerank("a", "b", model="none"), ("MODEL_NOT_FOUND", "model")),
    (rerank("a", "b", model="talker"), ("INVALID_ARGUMENT", "model")),
    (rerank("", "b"), ("MISSING_FIELD", "query")),
    (rerank("a"), ("MISSING_FIELD", "documents")),
    (rerank("a", "b", ""), ("INVALID_ARGUMENT", "documents[1]")),
    (rerank("a", "b", top_n=0), ("INVALID_ARGUMENT", "top_n")),
    (rerank("a", *["b " * 500] * 61), ("INVALID_ARGUMENT", "documents")),
    (rerank("a", "b", priority=priority_pb2.PRIORITY_HIGH), ("PERMISSION_DENIED", "priority")),
]


@pytest.mark.parametrize(("asked", "want"), RERANK_REFUSED)
async def test_reranking_refuses_with_the_field(
    platform: Platform, asked: pb.RerankRequest, want: tuple[str, str]
) -> None:
    assert await refusal(platform.embedding.Rerank(asked, metadata=USER)) == want


async def status(platform: Platform) -> dict[str, queue_pb2.QueueStatus.Worker]:
    queue = await platform.embedding.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    return {worker.model: worker for worker in queue.workers}


async def test_a_small_call_ends_before_a_large_one_that_came_first(platform: Platform) -> None:
    ended: list[str] = []

    async def call(name: str, metadata: Any, *texts: str) -> None:
        asked = request(*texts, model="slow", request_id=name)
        await platform.embedding.Embed(asked, metadata=metadata)
        ended.append(name)

    large = asyncio.create_task(call("large", USER, *["two words"] * 2_048))
    while not (await status(platform))["slow"].running_count:
        await asyncio.sleep(0.001)
    assert (await status(platform))["slow"].current_job == "large"
    await asyncio.gather(call("small", USER, "a"), call("other", OTHER, "b"))
    assert sorted(ended) == ["other", "small"]
    await large


async def test_a_full_queue_and_those_who_leave(platform: Platform) -> None:
    asked = request(*["two words"] * 2_048, model="slow")
    calls = [platform.embedding.Embed(asked, metadata=USER) for _ in range(3)]
    waiting = [asyncio.ensure_future(_code(call)) for call in calls]
    while True:
        slow = (await status(platform))["slow"]
        if slow.running_count + slow.waiting_count == 3:
            break
        await asyncio.sleep(0.001)
    full = platform.embedding.Embed(request("a", model="slow"), metadata=USER)
    assert await refusal(full) == ("QUEUE_FULL", "")
    for call in calls:
        call.cancel()
    assert await asyncio.gather(*waiting) == [grpc.StatusCode.CANCELLED] * 3
    while (await status(platform))["slow"].state != queue_pb2.QueueStatus.Worker.STATE_IDLE:
        await asyncio.sleep(0.001)
    assert await _code(platform.embedding.Embed(request("a", model="slow"), metadata=USER)) is None


async def _code(call: Any) -> grpc.StatusCode | None:
    try:
        await call
    except asyncio.CancelledError:
        return grpc.StatusCode.CANCELLED
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


async def test_deadlines_pass_in_the_queue(platform: Platform) -> None:
    asked = request(*["two words"] * 2_048, model="slow")
    call = platform.embedding.Embed(asked, metadata=USER, timeout=0.2)
    assert await _code(call) is grpc.StatusCode.DEADLINE_EXCEEDED
    while (await status(platform))["slow"].running_count:
        await asyncio.sleep(0.001)


async def test_unloading_a_model_tells_its_callers(platform: Platform) -> None:
    asked = request(*["two words"] * 2_048, model="slow")
    call = asyncio.ensure_future(_code(platform.embedding.Embed(asked, metadata=USER)))
    while not (await status(platform))["slow"].running_count:
        await asyncio.sleep(0.001)
    await platform.registry.served()["slow"].loaded.close()
    assert await call is grpc.StatusCode.UNAVAILABLE


async def test_a_drain_lets_calls_finish(platform: Platform) -> None:
    call = asyncio.ensure_future(
        _code(platform.embedding.Embed(request(*["a"] * 1_000, model="slow"), metadata=USER))
    )
    while not (await status(platform))["slow"].running_count:
        await asyncio.sleep(0.001)
    await platform.server.stop(30)
    assert await call is None


async def test_the_queue_tells_of_all_models(platform: Platform) -> None:
    await platform.embedding.Embed(request("a"), metadata=USER)
    queue = await platform.embedding.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    assert (queue.depth, queue.pending, queue.completed_24h) == (0, 0, 1)
    states = {each.model: each.state for each in queue.workers}
    worker = queue_pb2.QueueStatus.Worker
    assert states == {
        "echo": worker.STATE_IDLE,
        "slow": worker.STATE_IDLE,
        "cross": worker.STATE_IDLE,
        "loading": worker.STATE_LOADING,
        "broken": worker.STATE_OFFLINE,
    }
    assert {each.type for each in queue.workers} == {"embed"}


ANY_INPUT = st.one_of(
    st.text(max_size=40),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
    st.sampled_from([LONG, " ", "\0", "\n" * 50, "😀" * 700]),
)
NUMBER = st.sampled_from([-(2**31), -1, 0, 1, 8, 64, 65, 2**31 - 1])
ENUM = st.integers(-1, 9)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_nothing_that_is_sent_is_an_internal_error(
    platform: Platform, data: st.DataObject
) -> None:
    draw = data.draw
    model = draw(st.sampled_from(["echo", "cross", "", "models/echo", "none", "x" * 300, "talker"]))
    common: dict[str, Any] = {"truncation": draw(ENUM), "priority": draw(ENUM)}
    if draw(st.booleans()):
        asked = request(*draw(st.lists(ANY_INPUT, max_size=4)), model=model, **common)
        asked.task = draw(ENUM)
        asked.prompt_name = draw(st.sampled_from(["", "query", "nope", "\0", "x" * 200]))
        if draw(st.booleans()):
            asked.dimensions = draw(NUMBER)
        if draw(st.booleans()):
            asked.normalize = draw(st.booleans())
        call = platform.embedding.Embed(asked, metadata=USER)
    else:
        texts = draw(st.lists(ANY_INPUT.filter(lambda given: isinstance(given, str)), max_size=4))
        asked = rerank(draw(st.text(max_size=9)), *map(str, texts), model=model, **common)
        if draw(st.booleans()):
            asked.top_n = draw(NUMBER)
        if draw(st.booleans()):
            asked.max_tokens_per_document = draw(NUMBER)
        call = platform.embedding.Rerank(asked, metadata=USER)
    assert await _code(call) in {
        None,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
    }

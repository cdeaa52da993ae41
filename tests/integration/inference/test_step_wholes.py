# ruff: noqa: ASYNC110 - engines tell their counts, not when they change
"""Whole answers over the step stream: the same as those of the unary RPCs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from penstock.inference.internal.v1 import step_service_pb2 as pb
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2, sampling_pb2

from services.inference.step_answers import PIECE_BYTES, SHARE_BYTES
from tests.integration.inference.inference_platform import USER, Platform
from tests.integration.inference.test_inference_service import ERRORS
from tests.integration.inference.test_step_stream import METADATA, Edge, chat, status, until_free
from tests.integration.reasons import reason

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": [1]}}\n</tool_call>'


def complete(*texts: str, **more: Any) -> inference_pb.CompleteRequest:
    prompts = [inference_pb.Prompt(text=text) for text in texts]
    return inference_pb.CompleteRequest(model="completer", prompts=prompts, **more)


def large() -> inference_pb.CompleteRequest:
    """A request whose answer fills many pieces: the scores of a long prompt."""
    sampling = sampling_pb2.Sampling(logprobs=5, max_tokens=1)
    return complete("Wörter, more or less " * 350, echo=True, sampling=sampling)


@pytest.fixture
async def edge(platform: Platform) -> AsyncIterator[Edge]:
    edge = Edge(platform.steps.StepStream())
    yield edge
    await edge.close()


def answer(edge: Edge, id: int, request: Any) -> Any:
    *pieces, last = edge.updates[id]
    assert {piece.WhichOneof("update") for piece in pieces} <= {"piece"}
    kinds = {
        inference_pb.ChatRequest: inference_pb.ChatResponse,
        inference_pb.CompleteRequest: inference_pb.CompleteResponse,
    }
    return kinds[type(request)].FromString(b"".join([p.piece for p in pieces]) + last.answer)


def unary(platform: Platform, request: Any) -> Any:
    whole = isinstance(request, inference_pb.ChatRequest)
    return (platform.inference.Chat if whole else platform.inference.Complete)(
        request, metadata=USER
    )


@pytest.mark.parametrize(
    "request_",
    [
        chat("Wörter 😀 and words"),
        chat("ab", sampling=sampling_pb2.Sampling(n=3, logprobs=2, seed=1)),
        chat("stop here or there", sampling=sampling_pb2.Sampling(stop=["or"])),
        chat("cut short", sampling=sampling_pb2.Sampling(max_tokens=3)),
        chat(CALL, tools=[message_pb2.Tool(name="f")]),
        complete("one", "two", sampling=sampling_pb2.Sampling(n=2, best_of=3, max_tokens=2)),
        complete("echoed", echo=True, sampling=sampling_pb2.Sampling(logprobs=3)),
        large(),
    ],
    ids=["chat", "choices", "stop", "length", "tools", "texts", "echo", "large"],
)
async def test_they_equal_those_of_the_unary_rpc(
    platform: Platform, edge: Edge, request_: Any
) -> None:
    await edge.start(1, request_, credit=1, whole=True)
    await edge.ended(1)
    got, expected = answer(edge, 1, request_), await unary(platform, request_)
    for message in (got, expected):
        assert message.id
        assert message.create_time.seconds
        for field in ("id", "create_time", "timings"):
            message.ClearField(field)
        for choice in message.choices:
            for call in choice.message.tool_calls if hasattr(choice, "message") else ():
                assert call.id
                call.id = ""
    assert got == expected
    assert platform.registry.resolve(request_.model).active == 0


@pytest.mark.parametrize(("request_", "code", "expected", "field"), ERRORS)
async def test_errors_equal_those_of_the_unary_rpc(
    platform: Platform, edge: Edge, request_: Any, code: str, expected: str, field: str
) -> None:
    await edge.start(1, request_, whole=True)
    error = (await edge.ended(1)).error
    assert reason(error) == (expected, field)
    assert error.code == grpc.StatusCode[code].value[0]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(platform, request_)
    assert caught.value.details() == error.message


async def test_each_is_authenticated_and_fails_alone(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("a"), metadata={}, whole=True)
    await edge.start(2, chat("a"), metadata={"authorization": "Bearer wrong"}, whole=True)
    await edge.start(3, None, whole=True)
    await edge.start(4, chat("fine"), whole=True)
    assert reason((await edge.ended(1)).error)[0] == "MISSING_CREDENTIALS"
    assert reason((await edge.ended(2)).error)[0] == "INVALID_CREDENTIALS"
    assert reason((await edge.ended(3)).error) == ("INVALID_ARGUMENT", "request")
    await edge.ended(4)
    assert answer(edge, 4, chat("")).choices[0].message.parts[0].text == "fine"


async def test_large_answers_come_in_pieces_beside_others(platform: Platform, edge: Edge) -> None:
    await edge.start(99, chat("x" * 200))
    for id in range(3):
        await edge.start(id, large(), whole=True)
    for id in range(3):
        await edge.ended(id)
        assert len(edge.updates[id]) > 4
        assert all(len(update.piece) <= PIECE_BYTES for update in edge.updates[id])
        assert len(answer(edge, id, large()).choices[0].logprobs) > 7000
    await edge.ended(99)
    assert edge.text(99) == "x" * 200
    assert edge.largest < SHARE_BYTES + 2 * PIECE_BYTES


async def test_an_answer_over_the_limit_fails_alone(
    platform: Platform, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.step_answers.MAX_MESSAGE_BYTES", 100_000)
    await edge.start(1, large(), whole=True)
    await edge.start(2, chat("fine"), whole=True)
    assert reason((await edge.ended(1)).error)[0] == "MESSAGE_TOO_LARGE"
    await edge.ended(2)
    assert answer(edge, 2, chat("")).choices[0].message.parts[0].text == "fine"


async def test_a_cancelled_one_frees_its_sequence(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"), whole=True)
    while status(platform) != (1, 0):
        await asyncio.sleep(0.001)
    await edge.cancel(1)
    await until_free(platform)
    for id in range(2, 22):
        await edge.start(id, chat("x" * 7000, "slow"), whole=True)
        await edge.cancel(id)
    await edge.start(99, chat("a"), whole=True)
    await edge.ended(99)
    await until_free(platform)
    assert set(edge.updates) == {99}
    assert platform.registry.resolve("slow").active == 0


async def test_the_deadline_ends_one(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"), timeout_ms=100, whole=True)
    assert reason((await edge.ended(1)).error)[0] == "DEADLINE_EXCEEDED"
    await until_free(platform)


async def test_an_edge_that_leaves_takes_them_along(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"), whole=True)
    while status(platform) != (1, 0):
        await asyncio.sleep(0.001)
    await edge.close()
    await until_free(platform)
    assert platform.registry.resolve("slow").active == 0


async def test_a_drain_lets_them_finish_and_takes_no_new_ones(
    platform: Platform, edge: Edge
) -> None:
    await edge.start(1, chat("x" * 60, "slow"), whole=True)
    await edge.start(2, large(), whole=True)
    while status(platform) != (1, 0):
        await asyncio.sleep(0.001)
    stopping = asyncio.create_task(platform.server.stop(300))
    await asyncio.sleep(0.05)
    await edge.start(3, chat("a"), whole=True)
    assert reason((await edge.ended(3)).error)[0] == "UNAVAILABLE"
    await edge.ended(1)
    assert answer(edge, 1, chat("")).choices[0].message.parts[0].text == "x" * 60
    await edge.ended(2)
    assert len(answer(edge, 2, large()).choices[0].logprobs) > 7000
    async with asyncio.timeout(300):
        await stopping


def word(id: int, request: inference_pb.ChatRequest, **more: Any) -> bytes:
    start = pb.Start(chat=request, credit=1000, metadata=METADATA, **more)
    return pb.StepStreamRequest(stream_id=id, start=start).SerializeToString()


async def test_several_words_share_a_message(platform: Platform, edge: Edge) -> None:
    cancel = pb.StepStreamRequest(stream_id=2, cancel=pb.Cancel()).SerializeToString()
    words = [
        word(1, chat("one")),
        word(2, chat("x" * 4000, "slow")),
        cancel,
        word(3, chat("a", "nope")),
        word(4, chat("four"), whole=True),
    ]
    await edge.call.write(pb.StepStreamRequest(words=words))
    await edge.ended(1)
    assert edge.text(1) == "one"
    assert reason((await edge.ended(3)).error)[0] == "MODEL_NOT_FOUND"
    await edge.ended(4)
    assert answer(edge, 4, chat("")).choices[0].message.parts[0].text == "four"
    assert 2 not in edge.updates
    await until_free(platform)


@pytest.mark.parametrize(
    "bad",
    [b"\xff\xff", b"", pb.StepStreamRequest(words=[word(2, chat("a"))]).SerializeToString()],
    ids=["malformed", "empty", "nested"],
)
async def test_words_that_are_none_break_the_stream(
    platform: Platform, edge: Edge, bad: bytes
) -> None:
    await edge.call.write(pb.StepStreamRequest(words=[word(1, chat("x" * 4000, "slow")), bad]))
    assert await edge.call.code() == grpc.StatusCode.INVALID_ARGUMENT
    await until_free(platform)

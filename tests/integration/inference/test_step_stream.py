# ruff: noqa: ASYNC110 - engines tell their counts, not when they change
import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from penstock.inference.internal.v1 import step_service_pb2 as pb
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2, sampling_pb2

from tests.integration.inference.inference_platform import Platform
from tests.integration.reasons import reason

METADATA = {"authorization": "Bearer user-token", "x-request-id": "r-1"}


def chat(text: str, model: str = "echo", **more: Any) -> inference_pb.ChatRequest:
    part = message_pb2.Part(text=text)
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    return inference_pb.ChatRequest(model=model, messages=[message], **more)


class Edge:
    """An edge worker: sorts what comes by stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.updates: dict[int, list[pb.StepUpdate]] = defaultdict(list)
        self.messages = 0
        self.largest = 0
        self._arrived = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.call:
            self.messages += 1
            self.largest = max(self.largest, message.ByteSize())
            for update in message.updates:
                self.updates[update.stream_id].append(update)
            self._arrived.set()

    async def start(self, id: int, request: Any, credit: int = 1000, **more: Any) -> None:
        more.setdefault("metadata", METADATA)
        start = pb.Start(credit=credit, **more)
        if isinstance(request, inference_pb.ChatRequest):
            start.chat.CopyFrom(request)
        elif request is not None:
            start.complete.CopyFrom(request)
        await self.call.write(pb.StepStreamRequest(stream_id=id, start=start))

    async def grant(self, id: int, count: int) -> None:
        credit = pb.Credit(update_count=count)
        await self.call.write(pb.StepStreamRequest(stream_id=id, credit=credit))

    async def cancel(self, id: int) -> None:
        await self.call.write(pb.StepStreamRequest(stream_id=id, cancel=pb.Cancel()))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self._arrived.clear()
                await self._arrived.wait()

    async def ended(self, id: int) -> pb.StepUpdate:
        await self.until(lambda: self.updates[id] and is_last(self.updates[id][-1]))
        return self.updates[id][-1]

    def text(self, id: int) -> str:
        return "".join(
            update.text or update.chat.delta.text or update.complete.delta.text
            for update in self.updates[id]
        )

    async def close(self) -> None:
        self.call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


def is_last(update: pb.StepUpdate) -> bool:
    if update.HasField("error") or update.HasField("answer"):
        return True
    return update.chat.HasField("done") or update.complete.HasField("done")


@pytest.fixture
async def edge(platform: Platform) -> AsyncIterator[Edge]:
    edge = Edge(platform.steps.StepStream())
    yield edge
    await edge.close()


def status(platform: Platform, model: str = "slow") -> tuple[int, int]:
    status = platform.registry.resolve(model).loaded.engine.status()
    return status.running, status.waiting


async def until_free(platform: Platform, model: str = "slow") -> None:
    async with asyncio.timeout(10):
        while status(platform, model) != (0, 0):
            await asyncio.sleep(0.001)


async def test_many_requests_share_steps(platform: Platform, edge: Edge) -> None:
    texts = {id: chr(97 + id) * 50 for id in range(4)}
    for id, text in texts.items():
        await edge.start(id, chat(text))
    for id, text in texts.items():
        last = await edge.ended(id)
        assert last.chat.done.usage.completion_tokens == 51
        assert edge.text(id) == text
        kinds = [update.WhichOneof("update") for update in edge.updates[id]]
        assert kinds == ["chat", *["text"] * 50, "chat", "chat"]
    # Far fewer messages than updates: a step is one message.
    assert edge.messages < sum(len(updates) for updates in edge.updates.values()) / 2
    assert platform.registry.resolve("echo").active == 0


async def test_chats_and_completions_with_scores(platform: Platform, edge: Edge) -> None:
    sampling = sampling_pb2.Sampling(logprobs=1, n=2)
    await edge.start(1, chat("ab", sampling=sampling))
    prompts = [inference_pb.Prompt(text="xy")]
    complete = inference_pb.CompleteRequest(model="completer", prompts=prompts, echo=True)
    await edge.start(2, complete)
    await edge.ended(1)
    await edge.ended(2)
    deltas = [u.chat.delta for u in edge.updates[1] if u.chat.HasField("delta")]
    assert sorted(delta.index for delta in deltas) == [0, 0, 1, 1]
    assert all(len(delta.logprobs) == 1 for delta in deltas)
    assert edge.text(2) == "xyxy"


async def test_each_start_is_authenticated_and_fails_alone(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 200, "slow"))
    await edge.start(2, chat("a"), metadata={})
    await edge.start(3, chat("a"), metadata={"authorization": "Bearer wrong"})
    await edge.start(4, chat("a", "nope"))
    await edge.start(5, inference_pb.ChatRequest(model="echo"))
    await edge.start(6, chat("a", sampling=sampling_pb2.Sampling(temperature=9)))
    await edge.start(7, chat("a", sampling=sampling_pb2.Sampling(best_of=2)))
    await edge.start(8, None)
    await edge.start(9, chat("fine"))
    expected = {
        2: ("MISSING_CREDENTIALS", ""),
        3: ("INVALID_CREDENTIALS", ""),
        4: ("MODEL_NOT_FOUND", "model"),
        5: ("MISSING_FIELD", "messages"),
        6: ("INVALID_ARGUMENT", "sampling.temperature"),
        7: ("INVALID_ARGUMENT", "sampling.best_of"),
        8: ("INVALID_ARGUMENT", "request"),
    }
    for id, error in expected.items():
        assert reason((await edge.ended(id)).error) == error
        assert len(edge.updates[id]) == 1
    await edge.ended(9)
    assert edge.text(9) == "fine"
    await edge.ended(1)
    assert edge.text(1) == "x" * 200


async def test_no_more_comes_than_was_granted(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 300, "slow"), credit=10)
    await edge.until(lambda: len(edge.updates[1]) == 10)
    await asyncio.sleep(0.3)
    assert len(edge.updates[1]) == 10
    assert status(platform) == (1, 0)
    await edge.grant(1, 5)
    await edge.until(lambda: len(edge.updates[1]) == 15)
    await edge.grant(1, 1000)
    await edge.ended(1)
    assert edge.text(1) == "x" * 300


async def test_a_reader_without_credit_pauses_its_own_sequence_only(
    platform: Platform, edge: Edge
) -> None:
    engine = platform.registry.resolve("echo").loaded.engine
    await edge.start(1, chat("x" * 4000), credit=1)
    await edge.until(lambda: len(edge.updates[1]) == 1)
    await asyncio.sleep(0.1)
    await edge.start(2, chat("y" * 100))
    await edge.ended(2)
    assert engine.status().running == 1
    await edge.grant(1, 100)
    await edge.until(lambda: len(edge.updates[1]) == 101)
    await edge.cancel(1)
    await until_free(platform, "echo")


@pytest.mark.parametrize("slow_reader_timeout_s", [0.1])
async def test_a_reader_that_stays_behind_is_dropped(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000), credit=3)
    await edge.start(2, chat("y" * 50))
    last = await edge.ended(1)
    assert reason(last.error)[0] == "SLOW_READER"
    assert len(edge.updates[1]) == 4
    await edge.ended(2)
    await until_free(platform, "echo")
    assert platform.registry.resolve("echo").active == 0
    # Words about a request that is over are no offence.
    await edge.grant(1, 5)
    await edge.cancel(1)
    await edge.start(3, chat("z"))
    await edge.ended(3)


@pytest.mark.parametrize("slow_reader_timeout_s", [0.1])
async def test_an_answer_that_waits_for_its_last_credit_is_dropped_too(
    platform: Platform, edge: Edge
) -> None:
    await edge.start(1, chat("abc"), credit=2)
    assert reason((await edge.ended(1)).error)[0] == "SLOW_READER"


async def test_a_cancelled_request_says_nothing_more(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"))
    await edge.until(lambda: len(edge.updates[1]) > 3)
    await edge.cancel(1)
    await until_free(platform)
    seen = len(edge.updates[1])
    await edge.start(2, chat("a"))
    await edge.ended(2)
    assert len(edge.updates[1]) <= seen + 1


async def test_a_request_cancelled_at_once_never_runs(platform: Platform, edge: Edge) -> None:
    for id in range(20):
        await edge.start(id, chat("x" * 7000, "slow"))
        await edge.cancel(id)
    await edge.start(99, chat("a"))
    await edge.ended(99)
    await until_free(platform)
    assert platform.registry.resolve("slow").active == 0


async def test_the_deadline_ends_a_request(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"), timeout_ms=100)
    assert reason((await edge.ended(1)).error)[0] == "DEADLINE_EXCEEDED"
    await until_free(platform)


async def test_an_edge_that_leaves_takes_its_requests_along(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"))
    await edge.start(2, chat("y" * 4000, "slow"))
    await edge.until(lambda: len(edge.updates) == 2)
    assert status(platform) == (2, 0)
    await edge.close()
    await until_free(platform)
    assert platform.registry.resolve("slow").active == 0


async def test_an_edge_that_closes_its_side_ends_the_stream(platform: Platform, edge: Edge) -> None:
    await edge.start(1, chat("x" * 4000, "slow"))
    await edge.until(lambda: edge.updates[1])
    await edge.call.done_writing()
    await until_free(platform)
    assert await edge.call.code() == grpc.StatusCode.OK


async def test_a_stream_id_that_runs_already_breaks_the_stream(
    platform: Platform, edge: Edge
) -> None:
    await edge.start(1, chat("x" * 4000, "slow"))
    await edge.start(1, chat("a"))
    assert await edge.call.code() == grpc.StatusCode.INVALID_ARGUMENT
    await until_free(platform)


async def test_a_drain_lets_requests_finish_and_takes_no_new_ones(
    platform: Platform, edge: Edge
) -> None:
    await edge.start(1, chat("x" * 100, "slow"))
    await edge.until(lambda: edge.updates[1])
    stopping = asyncio.create_task(platform.server.stop(5))
    await asyncio.sleep(0.05)
    await edge.start(2, chat("a"))
    assert reason((await edge.ended(2)).error)[0] == "UNAVAILABLE"
    await edge.ended(1)
    assert edge.text(1) == "x" * 100
    async with asyncio.timeout(30):
        await stopping

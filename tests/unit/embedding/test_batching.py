"""Batches of many callers: each gets its own, in order, once, whoever leaves meanwhile."""

import asyncio
import contextlib
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.embedding.batching import Batcher, Limits, Order, Progress, until
from services.embedding.engine import Tokens
from services.embedding.engines.echo_engine import EchoEncoder, EchoSettings
from services.embedding.requests import Caller, Priority, Timings
from services.errors import DeadlineExceeded, QueueFull, Unavailable
from tests.unit.embedding.gated_encoder import GatedEncoder, settle

Answer = tuple[list[object], Timings]
SETTINGS = EchoSettings(dimensions=8, batch_tokens=50)


def unique(call: int, sizes: list[int]) -> list[Tokens]:
    """Inputs that are those of no other call."""
    return [Tokens([2 + call, 2 + at, *[9] * (size - 2)]) for at, size in enumerate(sizes)]


def numbers(vector: object) -> tuple[float, ...]:
    assert isinstance(vector, bytes)
    return struct.unpack("<8f", vector)


class BatcherMachine(RuleBasedStateMachine):
    """Calls come, leave and fail while batches run, until the model is unloaded."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    @initialize()
    def begin(self) -> None:
        self.encoder = GatedEncoder(SETTINGS)
        self.batcher = self.run(self.make())
        self.inputs: list[list[Tokens]] = []
        self.orders: list[Order] = []
        self.tasks: list[asyncio.Task[Answer]] = []
        self.left: set[int] = set()
        self.failed: set[int] = set()
        self.checked: set[int] = set()
        self.gone: dict[int, int] = {}  # call → batches when it left
        self.closed = False

    async def make(self) -> Batcher:
        return Batcher(self.encoder)

    def run(self, work):  # type: ignore[no-untyped-def]
        async def through():  # type: ignore[no-untyped-def]
            result = await work
            await settle()
            return result

        return self.loop.run_until_complete(through())

    def in_batch(self) -> set[int]:
        return {tokens.ids[0] - 2 for tokens in self.encoder.batches[-1]}

    @rule(
        sizes=st.lists(st.integers(2, 30), max_size=8),
        principal=st.sampled_from("ab"),
        priority=st.sampled_from(list(Priority)),
        normalize=st.booleans(),
    )
    def call(self, sizes: list[int], principal: str, priority: Priority, normalize: bool) -> None:
        number = len(self.tasks)
        inputs = unique(number, sizes)
        order = Order(Caller(principal), priority, normalize)

        async def start() -> None:
            self.tasks.append(asyncio.create_task(self.batcher.compute(inputs, order)))

        self.inputs.append(inputs)
        self.orders.append(order)
        self.run(start())
        if self.closed:
            assert isinstance(self.tasks[number].exception(), Unavailable)
            self.failed.add(number)

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.tasks) - 1))
        if not self.tasks[number].done():
            self.left.add(number)
            self.tasks[number].cancel()
            self.run(settle())
            assert self.tasks[number].cancelled()
            self.gone[number] = len(self.encoder.batches)

    @precondition(lambda self: self.encoder.running is not None)
    @rule()
    def finish(self) -> None:
        self.encoder.release()
        self.run(settle())

    @precondition(lambda self: self.encoder.running is not None)
    @rule()
    def fail(self) -> None:
        self.failed |= {n for n in self.in_batch() if not self.tasks[n].done()}
        self.encoder.release(RuntimeError("the device is gone"))
        self.run(settle())

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        pending = {n for n, task in enumerate(self.tasks) if not task.done()}
        self.run(self.batcher.close())
        for number in pending:
            assert isinstance(self.tasks[number].exception(), Unavailable)
            self.failed.add(number)

    @invariant()
    def nothing_is_computed_twice_or_for_nobody(self) -> None:
        if not hasattr(self, "encoder"):
            return
        seen = [tuple(tokens.ids[:2]) for batch in self.encoder.batches for tokens in batch]
        assert len(seen) == len(set(seen))
        for number, before in self.gone.items():
            later = [tokens for batch in self.encoder.batches[before:] for tokens in batch]
            assert all(tokens.ids[0] - 2 != number for tokens in later)
        for batch in self.encoder.batches:
            sizes = [len(tokens.ids) for tokens in batch]
            assert sum(sizes) <= SETTINGS.batch_tokens or len(batch) == 1
            assert sizes == sorted(sizes, reverse=True)

    @invariant()
    def whoever_can_be_served_is(self) -> None:
        if not hasattr(self, "encoder") or self.encoder.running is not None:
            return
        assert all(task.done() for task in self.tasks), "the engine rests while calls wait"

    @invariant()
    def answers_are_whole_and_in_order(self) -> None:
        for number, task in enumerate(getattr(self, "tasks", ())):
            if not task.done() or number in self.left | self.checked:
                continue
            self.checked.add(number)
            if number in self.failed:
                assert task.exception() is not None
                continue
            vectors, timings = task.result()
            inputs, normalize = self.inputs[number], self.orders[number].normalize
            want = self.run(EchoEncoder(SETTINGS).encode(inputs, normalize=normalize))
            for vector, expected in zip(vectors, want, strict=True):
                assert numbers(vector) == pytest.approx(numbers(expected), abs=1e-6)
            assert timings.queue_s >= 0

    def teardown(self) -> None:
        if hasattr(self, "encoder"):
            while self.encoder.running is not None:
                self.finish()
            self.whoever_can_be_served_is()
            self.answers_are_whole_and_in_order()
            self.run(self.batcher.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(settle())
        self.loop.close()


TestBatcher = BatcherMachine.TestCase
TestBatcher.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def calls(batcher: Batcher, count: int, sizes: list[int]) -> list[asyncio.Task[Answer]]:
    async def call(number: int) -> Answer:
        with batcher.place():
            return await batcher.compute(unique(number, sizes))

    return [asyncio.create_task(call(number)) for number in range(count)]


async def drain(encoder: GatedEncoder) -> None:
    """Lets all batches come to their end."""
    while encoder.running is not None:
        encoder.release()
        await settle()


async def test_a_full_queue_turns_away_at_once() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder, Limits(calls=2))
    tasks = calls(batcher, 3, [20])
    await settle()
    with pytest.raises(QueueFull, match="2 calls wait") as caught:
        await tasks[2]
    assert caught.value.retry_after_s == 1.0, "nothing was measured yet"
    await drain(encoder)
    await asyncio.gather(*tasks[:2])
    (task,) = calls(batcher, 1, [20])
    await settle()
    await drain(encoder)
    await task
    assert batcher.status().completed_24h == 3
    assert (batcher.status().running, batcher.status().waiting) == (0, 0)


async def test_too_many_tokens_are_turned_away_too() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder, Limits(tokens=100))
    # One call comes in whatever its size; it is in batches of 50.
    (large,) = calls(batcher, 1, [25] * 6)
    await settle()
    for sizes in ([2], [30]):
        (task,) = calls(batcher, 1, sizes)
        with pytest.raises(QueueFull, match="100 tokens wait"):
            await task
    encoder.release()
    await settle()
    (fits,) = calls(batcher, 1, [50])
    await settle()
    (late,) = calls(batcher, 1, [2])
    with pytest.raises(QueueFull) as caught:
        await late
    assert caught.value.retry_after_s is not None
    assert 0.5 <= caught.value.retry_after_s <= 60
    await drain(encoder)
    await asyncio.gather(large, fits)


async def test_a_small_call_ends_before_a_large_one() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder)
    ended: list[str] = []
    large = asyncio.create_task(batcher.compute(unique(0, [10] * 2_048)))
    large.add_done_callback(lambda _: ended.append("large"))
    await settle()
    small = asyncio.create_task(batcher.compute(unique(1, [10])))
    small.add_done_callback(lambda _: ended.append("small"))
    await settle()
    await drain(encoder)
    assert ended == ["small", "large"]
    computed = [[tokens.ids[0] - 2 for tokens in batch] for batch in encoder.batches]
    assert 1 in computed[1], "it is in the first batch that was put together after it came"
    assert len(computed[1]) == 5, "and the batch is full"


async def test_deadlines_end_the_wait() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder)
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(batcher.compute(unique(0, [50])))
    await settle()
    progress = Progress()
    with pytest.raises(DeadlineExceeded) as late:
        async with until(loop.time() + 0.01, progress):
            await batcher.compute(unique(1, [50]), progress=progress)
    assert late.value.metadata["prompt_tokens"] == "0"
    assert float(late.value.metadata["queued_s"]) > 0
    assert late.value.metadata["ran_s"] == "0.000"
    encoder.release()
    await first
    await settle()
    assert len(encoder.batches) == 1, "what came too late is not computed"
    with pytest.raises(TimeoutError):
        async with until(loop.time() + 100, Progress()):
            raise TimeoutError  # somebody else's


async def test_the_status_tells_who_runs() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder)
    assert batcher.status().running == 0

    async def call(name: str) -> None:
        with batcher.place():
            await batcher.compute(unique(0, [50]), Order(Caller(request_id=name)))

    tasks = [asyncio.create_task(call(name)) for name in ("first", "second")]
    await settle()
    status = batcher.status()
    assert (status.running, status.waiting, status.request_id) == (1, 1, "first")
    for _ in tasks:
        encoder.release()
        await settle()
    assert batcher.status().completed_24h == 2


async def test_most_inputs_bounds_a_batch() -> None:
    encoder = GatedEncoder(SETTINGS)
    batcher = Batcher(encoder, Limits(batch_tokens=1000))
    batcher.most_inputs = 3
    task = asyncio.create_task(batcher.compute(unique(0, [2] * 7)))
    await settle()
    await drain(encoder)
    await task
    assert [len(batch) for batch in encoder.batches] == [3, 3, 1]


async def test_nothing_comes_in_after_the_end() -> None:
    batcher = Batcher(GatedEncoder(SETTINGS))
    await batcher.close()
    with pytest.raises(Unavailable), batcher.place():
        pass
    with pytest.raises(Unavailable):
        await batcher.compute(unique(0, [2]))


async def test_cross_encoders_score() -> None:
    encoder = GatedEncoder(SETTINGS, scores_pairs=True)
    batcher = Batcher(encoder)
    pairs = [Tokens([0, 7, 1, 7, 1], second_from=3), Tokens([0, 7, 1, 8, 1], second_from=3)]
    task = asyncio.create_task(batcher.compute(pairs))
    await settle()
    encoder.release()
    assert (await task)[0] == [1.0, 0.0]
    with contextlib.suppress(asyncio.CancelledError):
        await batcher.close()

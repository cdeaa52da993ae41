"""The torch engine's own thread over a symbolic memory: no call of any caller is slept through."""

import asyncio
import random
import time
from collections.abc import Collection, Iterable

import pytest

from services.inference.engine import EngineInfo, Priority
from services.inference.engines.admission import Limits
from services.inference.engines.echo_engine import CAPABILITIES
from services.inference.engines.memory_ops import MemoryOperation
from services.inference.engines.sampler import Choice
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.steps import Batch
from services.inference.engines.torch_engine import TorchEngine
from services.inference.engines.torch_runner import SpanResult
from tests.conformance.recorder import Recorder, sequence, submit
from tests.unit.inference.engines.scheduler_bench import choose
from tests.unit.inference.engines.symbolic_memory import SymbolicMemory, continuation

PLAYS = 40
CONTEXT = 128


class SymbolicRunner:
    """Computes what the symbolic model says, now and then slowly."""

    def __init__(self, limits: Limits, dice: random.Random) -> None:
        self._memory = SymbolicMemory(limits.pool)
        self._dice = dice

    def retain(self, keys: Collection[int]) -> None:
        pass

    def carry_out(self, operations: Iterable[MemoryOperation]) -> None:
        self._memory.carry_out(operations)

    def run(self, batch: Batch) -> list[SpanResult]:
        self._memory.compute([batch])
        if self._dice.random() < 0.3:
            time.sleep(self._dice.random() / 1000)
        return [
            SpanResult(
                span,
                [Choice(token, None) for token in choose(span, None)] if span.completes else (),
            )
            for span in batch.spans
        ]

    def release(self) -> None:
        pass


@pytest.mark.parametrize("drafts", [0, 6])
@pytest.mark.parametrize("contexts", [1, 2])
async def test_everybody_is_answered_whoever_calls_when(contexts: int, drafts: int) -> None:
    dice = random.Random(f"{contexts} {drafts}")
    limits = Limits(4, 200, CONTEXT, 200, contexts * (CONTEXT + 1))
    scheduler = Scheduler(
        limits,
        eos=frozenset(),
        step_tokens=32,
        now=time.monotonic(),
        speculative_tokens=drafts,
    )
    info = EngineInfo("symbolic", "cpu", "none", CONTEXT, 4, 200, 0, CAPABILITIES, "1")
    runner = SymbolicRunner(limits, random.Random(1))
    engine = TorchEngine(info, runner, scheduler)  # type: ignore[arg-type]
    try:
        for _ in range(PLAYS):
            await play(engine, dice)
    finally:
        await engine.close()


async def play(engine: TorchEngine, dice: random.Random) -> None:
    recorders: list[tuple[Recorder, list[int], int]] = []
    for _ in range(dice.randrange(4, 20)):
        kind = dice.random()
        if kind < 0.45 or not recorders:
            prompt = [place * 7 % 49 + 1 for place in range(dice.randrange(1, 60))]
            most, priority = dice.randrange(1, 30), dice.choice(list(Priority))
            group = [sequence(prompt, most)] * dice.choice((1, 1, 2, 3))
            recorders.append((submit(engine, *group, priority=priority), prompt, most))
        elif kind < 0.6:
            await asyncio.sleep(dice.random() / 200)
        else:
            recorder = dice.choice(recorders)
            handle = recorder[0].handle
            assert handle is not None
            action = dice.choice(("pause", "pause", "resume", "cancel"))
            getattr(handle, action)()
            if action == "cancel":
                recorders.remove(recorder)
    for recorder, *_ in recorders:
        assert recorder.handle is not None
        recorder.handle.resume()
    for recorder, prompt, most in recorders:
        await recorder.until_over()
        for index in recorder.ends:
            assert recorder.tokens(index) == continuation(prompt, most)

"""Hundreds of random requests on the torch engine: forms good and bad, prompts of any length,
deadlines, callers who leave. Nothing is left, no step is too large, and nothing is logged."""

import asyncio
import logging
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidArgument,
    QueueFull,
)
from services.inference.engine import (
    Grammar,
    GrammarKind,
    LoadedModel,
    ModelSpec,
    Priority,
    SequenceRequest,
)
from services.inference.engines.steps import LEAST_PREFILL, Phase, Step
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import Recorder, sequence, submit, until
from tests.conformance.tiny_models import save_model

CONTEXT = 128
STEP_TOKENS = 64
HUGE = 100_000
BYTES_PER_TOKEN = 2 * 2 * 8 * 4  # keys and values, heads, head size, float32; one layer

GOOD = (
    Grammar(GrammarKind.JSON_OBJECT),
    Grammar(GrammarKind.JSON_SCHEMA, '{"type": "integer"}'),
    Grammar(GrammarKind.REGEX, "[a-c]{3,9}"),
    Grammar(GrammarKind.GBNF, 'root ::= "x" | "(" root ")"'),
)
REFUSED = (  # before they are queued
    Grammar(GrammarKind.JSON_SCHEMA, '{"type": "intege'),
    Grammar(GrammarKind.JSON_SCHEMA, '{"type": "no such type"}'),
    Grammar(GrammarKind.REGEX, "[a-c"),
    Grammar(GrammarKind.GBNF, 'root ::= "x" | other'),
)
STUCK = Grammar(GrammarKind.REGEX, "x[abc]y")
"""Leaves no token when its middle may only be what ends the sequence."""


class Soak:
    """One engine, and what became of its requests."""

    def __init__(self, loaded: LoadedModel, seed: int) -> None:
        self.loaded = loaded
        self.engine: Any = loaded.engine
        self.dice = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.alive: list[tuple[Recorder, asyncio.Task[None]]] = []
        self.stops = frozenset(loaded.text.encode(letter)[0] for letter in "abc")
        plan = self.engine._scheduler.plan

        def planned(now: float) -> Step:
            step = plan(now)
            decoding = sum(len(b.spans) for b in step.batches if b.phase is Phase.DECODE)
            size = sum(batch.size for batch in step.batches)
            assert size <= max(STEP_TOKENS, decoding + LEAST_PREFILL)
            self.outcomes["steps"] += 1
            return step

        self.engine._scheduler.plan = planned

    async def request(self) -> SequenceRequest:
        dice = self.dice
        length = dice.choice((1, 4, 9, 20, 60, CONTEXT - 1, HUGE if dice.random() < 0.2 else 30))
        begin = dice.choice((3, 9, 40))
        prompt = [(begin + 3 * place) % 250 + 3 for place in range(length)]
        params: dict[str, Any] = {"temperature": dice.choice((0, 0.8, 2.0))}
        grammar: Grammar | None = None
        match dice.randrange(12):
            case 0 | 1:
                grammar = dice.choice(GOOD)
            case 2:
                grammar = dice.choice(REFUSED)
            case 3:
                grammar, params["stop_token_ids"] = STUCK, self.stops
            case 4:
                params |= {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "min_tokens": 2}
            case 5:
                params |= {"top_p": 0.8, "typical_p": 0.9, "logprobs": 3}
            case 6:
                params |= {"logprobs": 1, "prompt_logprobs": True}
            case _:
                pass
        compiled = None if grammar is None else await self.engine.compile(grammar)
        wanted = sequence(prompt, dice.choice((0, 1, 2, 5, 9)), dice.getrandbits(40), **params)
        return replace(wanted, grammar=compiled)

    async def arrive(self) -> None:
        """One group comes; or is refused."""
        dice = self.dice
        deadline = None
        if dice.random() < 0.2:
            deadline = asyncio.get_running_loop().time() + dice.choice((-1.0, 0.0, 0.005, 0.05))
        try:
            request = await self.request()
            recorder = submit(
                self.engine,
                *[request] * dice.choice((1, 1, 1, 2, 3)),
                principal=dice.choice("abc"),
                priority=dice.choice(list(Priority)),
                deadline=deadline,
                reuse=dice.random() < 0.9,
            )
        except (QueueFull, ContextLengthExceeded, InvalidArgument) as error:
            self.outcomes[type(error).__name__] += 1
            return
        self.alive.append((recorder, asyncio.create_task(self.watch(recorder))))

    async def watch(self, recorder: Recorder) -> None:
        """Stays with a group to its end, or leaves earlier."""
        handle = recorder.handle
        assert handle is not None
        choice = self.dice.random()
        if choice < 0.15:
            await asyncio.sleep(self.dice.choice((0, 0.001, 0.01)))
            handle.cancel()
            self.outcomes["cancelled"] += 1
            return
        if choice < 0.25:
            handle.pause()
            await asyncio.sleep(0.002)
            handle.resume()
        await recorder.until_over()
        failure = recorder.failure
        if failure is None:
            self.outcomes["answered"] += 1
        else:  # nothing unforeseen
            assert isinstance(failure, DeadlineExceeded | InvalidArgument)
            self.outcomes["stuck" if isinstance(failure, InvalidArgument) else "late"] += 1

    async def run(self, requests: int) -> None:
        for arrived in range(requests):
            await self.arrive()
            if arrived % 8 == 0:
                await asyncio.sleep(self.dice.choice((0, 0, 0.002)))
            if self.engine.status().waiting > 12 and self.dice.random() < 0.95:
                await self.settle(len(self.alive) * 3 // 4)
        await self.settle(0)

    async def settle(self, left: int) -> None:
        """Waits until so few are alive."""
        while len(self.alive) > left:
            _, task = self.alive.pop(0)
            await task


@pytest.mark.parametrize(
    "requests", [500, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_random_requests_leave_nothing_behind(
    requests: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TorchSettings(
        max_batch_size=8,
        queue_limit=24,
        max_context=CONTEXT,
        device="cpu",
        dtype="float32",
        step_tokens=STEP_TOKENS,
        speculative_tokens=3,
        kv_cache_bytes=4 * (CONTEXT + 1) * BYTES_PER_TOKEN,
    )
    folder = save_model(tmp_path / "model", num_hidden_layers=1)
    loaded = await TorchLoader(settings).load(ModelSpec("m", "1", folder), lambda share: None)
    soak = Soak(loaded, seed=requests)
    try:
        with caplog.at_level(logging.WARNING):
            await soak.run(requests)
            await until(lambda: soak.engine.status().running == soak.engine.status().waiting == 0)
        assert caplog.records == []
        pool = soak.engine._scheduler._residents.pool
        await until(lambda: pool.owned == 0)
        again = await submit(loaded.engine, sequence([5], 3, ignore_eos=True)).until_over()
        assert len(again.tokens()) == 3
        await until(lambda: len(soak.engine._runner._samplers) <= 1)
    finally:
        await loaded.engine.close()
    # Everything this test is about did happen.
    for outcome in ("ContextLengthExceeded", "InvalidArgument", "cancelled", "late", "stuck"):
        assert soak.outcomes[outcome] > requests / 200, soak.outcomes
    assert soak.outcomes["answered"] > requests / 4, soak.outcomes
    assert soak.outcomes["steps"] > requests / 4

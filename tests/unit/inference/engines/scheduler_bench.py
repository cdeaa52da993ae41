"""A scheduler with a symbolic memory under it, stepped by hand."""

from collections.abc import Callable, Sequence
from itertools import count

from services.inference.engine import (
    Ended,
    EngineEvent,
    GroupRequest,
    Priority,
    Reused,
    SamplingParams,
    SequenceRequest,
    Token,
    TokenScore,
)
from services.inference.engines.admission import Limits
from services.inference.engines.kv_pool import KvPool
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.sequences import GroupState, Stage
from services.inference.engines.steps import LEAST_PREFILL, Batch, Phase, Span
from tests.unit.inference.engines.symbolic_memory import SymbolicMemory, next_token

EOS = 0
CONTEXT = 64


def prompt_of(kind: int, length: int) -> list[int]:
    """Prompts of one kind begin alike; of two kinds, they differ from the first token on."""
    return [(kind + 3 * place) % 49 + 1 for place in range(length)]


def request(
    *sizes: tuple[int, int],
    principal: str = "",
    priority: Priority = Priority.NORMAL,
    scored: bool = False,
    kind: int | None = None,
    reuse: bool = True,
) -> GroupRequest:
    """A group of sequences of (prompt length, max_tokens). Of different kinds, or all of one."""
    return GroupRequest(
        [
            SequenceRequest(
                prompt_of(next(KINDS) if kind is None else kind, prompt),
                SamplingParams(max_tokens=most, seed=0),
                prompt_logprobs=scored,
            )
            for prompt, most in sizes
        ],
        principal=principal,
        priority=priority,
        reuse=reuse,
    )


KINDS = count(100)


def choose(span: Span, forced: int | None) -> list[int]:
    """What the symbolic model says for as long as that was drafted, and one more."""
    tokens = list(span.sequence.tokens)
    for drafted in span.draft:
        if drafted != next_token(tokens):
            break
        tokens.append(drafted)
    tokens.append(next_token(tokens) if forced is None else forced)
    return tokens[len(span.sequence.tokens) :]


class Bench:
    """A scheduler, a symbolic memory, a clock, and what every group has heard."""

    def __init__(
        self,
        slots: int = 2,
        queue_limit: int = 4,
        step_tokens: int = 16,
        context: int = CONTEXT,
        kv_tokens: int = 0,
        speculative_tokens: int = 0,
    ) -> None:
        self.now = 100.0
        self.limits = Limits(slots, queue_limit, context, 200, kv_tokens)
        self.step_tokens = step_tokens
        self.scheduler = Scheduler(
            self.limits,
            eos=frozenset({EOS}),
            step_tokens=step_tokens,
            now=self.now,
            speculative_tokens=speculative_tokens,
        )
        self.memory = SymbolicMemory(self.limits.pool)
        self.heard: dict[GroupState, list[EngineEvent]] = {}
        self.prefilled = 0
        self.drafted = 0
        self.matched = 0

    @property
    def pool(self) -> KvPool:
        return self.scheduler._residents.pool

    def submit(self, group: GroupRequest, deadline: float | None = None) -> GroupState:
        def sink(events: Sequence[EngineEvent]) -> None:
            raise AssertionError("the scheduler never calls sinks")

        state = self.scheduler.submit(group, sink, deadline=deadline, now=self.now)
        self.heard[state] = []
        return state

    def step(
        self, token: int | None = None, between: Callable[[], object] | None = None
    ) -> list[tuple[Phase, list[int]]]:
        """One step; every sequence that is ready gets what the symbolic model says, or `token`,
        after what was drafted right. `between` is what callers do while the model computes."""
        self.now += 0.1
        step = self.scheduler.plan(self.now)
        self.memory.carry_out(step.operations)
        assert self.pool.shape == (len(self.memory.rows), self.memory.columns)
        decoding = sum(len(b.spans) for b in step.batches if b.phase is Phase.DECODE)
        size = sum(batch.size for batch in step.batches)
        assert size <= max(self.step_tokens, decoding + LEAST_PREFILL)
        self.prefilled += sum(b.size for b in step.batches if b.phase is not Phase.DECODE)
        self.memory.compute(step.batches)
        shape = [(batch.phase, [span.count for span in batch.spans]) for batch in step.batches]
        outcomes: list[tuple[Batch, Span, list[int]]] = []
        for batch in step.batches:
            for span in batch.spans:
                assert span.sequence.stage is Stage.RUNNING, "it is over, and computed"
                assert span.sequence.key in step.resident
                assert span.start == span.sequence.computed
                outcomes.append((batch, span, choose(span, token) if span.completes else []))
        if between is not None:
            between()
        self._settle(outcomes, disturbed=between is not None)
        self.take()
        return shape

    def _settle(self, outcomes: list[tuple[Batch, Span, list[int]]], *, disturbed: bool) -> None:
        for batch, span, chosen in outcomes:
            if batch.phase is Phase.SCORE:
                predicted = span.sequence.request.prompt[span.start + 1 : span.end + 1]
                scores = [TokenScore(token, 0.0) for token in predicted]
                self.scheduler.score(span.sequence, scores)
            self.drafted += len(span.draft)
            self.matched += max(0, len(chosen) - 1)
            self.scheduler.advance(span, self.now, max(0, len(chosen) - 1))
            for place, choice in enumerate(chosen):
                running = span.sequence.stage is Stage.RUNNING
                assert place == 0 or running or disturbed, "drafted too much"
                self.scheduler.accept(span.sequence, choice, None, self.now)

    def run(self, most: int = 3000) -> int:
        """Steps until there is nothing to do; returns how many steps that took."""
        steps = 0
        while self.scheduler.due(self.now):
            self.step()
            steps += 1
            assert steps < most
        return steps

    def tokens(self, group: GroupState, index: int = 0) -> list[int]:
        return [
            event.token_id
            for event in self.heard[group]
            if isinstance(event, Token) and event.index == index
        ]

    def cached(self, group: GroupState, index: int = 0) -> int:
        [end] = [e for e in self.heard[group] if isinstance(e, Ended) and e.index == index]
        reused = [e for e in self.heard[group] if isinstance(e, Reused) and e.index == index]
        assert sum(event.cached_tokens for event in reused) == end.cached_tokens
        return end.cached_tokens

    def take(self) -> None:
        for group, events in self.scheduler.take_events():
            self.heard.setdefault(group, []).extend(events)

    def counts(self) -> tuple[int, int]:
        status = self.scheduler.status(self.now)
        return status.running, status.waiting

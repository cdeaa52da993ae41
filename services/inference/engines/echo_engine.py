"""An engine that answers with what it was asked. It needs no model, no torch and no GPU.

It queues, batches, steps, limits and fails exactly like the others (they share the scheduler),
which makes it good for tests, for trying clients, and for measuring everything around an engine.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.errors import InvalidArgument, Unavailable
from services.inference.engine import (
    EngineCapabilities,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    LoadedModel,
    ModelSpec,
    Sink,
    TokenScore,
)
from services.inference.engines.adapters import WithoutAdapters
from services.inference.engines.admission import Limits
from services.inference.engines.echo_text import IM_END, VOCABULARY_SIZE, EchoText, echoed
from services.inference.engines.guides import check_forms, without_guides
from services.inference.engines.handle import Command, ScheduledGroup, deliver
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.sequences import SequenceState, Stage
from services.inference.engines.steps import Phase, Span

MOST_LOGPROBS = 20
FILLER = ord(".")
"""Echo of nothing."""
UNLIKELY = -100.0
"""Log-probability of the best token that is not the echo."""

CAPABILITIES = EngineCapabilities(
    # All probability is on one token, and none of these changes that. Penalties and biases would
    # have to.
    sampling_fields=frozenset(
        {"temperature", "top_p", "top_k", "min_p", "typical_p"}
        | {"min_tokens", "ignore_eos", "logprobs"}
    ),
    max_top_logprobs=MOST_LOGPROBS,
    prompt_logprobs=True,
)


@dataclass(frozen=True, slots=True)
class EchoSettings:
    """How the echo engine behaves."""

    max_batch_size: int = 16
    """Sequences that run at once."""
    queue_limit: int = 128
    """Sequences that may wait."""
    context_length: int = 8192
    """Most tokens (bytes) of prompt and answer together."""
    tokens_per_step: int = 1
    """Tokens that each running sequence gains in one step."""
    step_interval_s: float = 0.0
    """Time from one step to the next. 0 steps as fast as the event loop allows."""


class EchoEngine(WithoutAdapters):
    """Echoes. Must be made on the event loop that uses it."""

    def __init__(self, settings: EchoSettings) -> None:
        self._settings = settings
        self._info = EngineInfo(
            name="echo",
            device="cpu",
            dtype="none",
            context_length=settings.context_length,
            slots=settings.max_batch_size,
            vocabulary_size=VOCABULARY_SIZE,
            parameter_count=0,
            capabilities=CAPABILITIES,
            build="echo-1",
        )
        self._scheduler = Scheduler(
            Limits(
                slots=settings.max_batch_size,
                queue_limit=settings.queue_limit,
                context_length=settings.context_length,
                vocabulary_size=VOCABULARY_SIZE,
                reuse=False,  # there is no attention state
            ),
            eos=frozenset({IM_END}),
            step_tokens=settings.context_length * settings.max_batch_size,
            now=time.monotonic(),
        )
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._closed = False
        self._sources: dict[int, list[int]] = {}  # what each resident sequence echoes, by key
        self._task = self._loop.create_task(self._run(), name="echo-engine")

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        if self._closed:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        check_forms(group, None)
        now = time.monotonic()
        deadline = None if group.deadline is None else now + group.deadline - self._loop.time()
        state = self._scheduler.submit(group, sink, deadline=deadline, now=now)
        self._wake.set()
        return ScheduledGroup(state, self._apply)

    async def compile(self, grammar: Grammar) -> object:
        """Refuses: an echo can't be held to a form."""
        raise without_guides(grammar)

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        return self._scheduler.status(time.monotonic())

    async def probe(self) -> None:
        """There is no forward pass to run: answers as long as the engine steps."""
        if self._closed or self._task.done():
            raise Unavailable("The engine has stopped: load the model again.")

    async def close(self) -> None:
        """Fails what runs and stops stepping."""
        self._closed = True
        self._scheduler.close()
        deliver(self._scheduler.take_events())
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _apply(self, command: Command) -> None:
        command(self._scheduler)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._work()
            self._step()
            # With 0 this still yields, so that others run between two steps.
            await asyncio.sleep(self._settings.step_interval_s)

    async def _work(self) -> None:
        """Waits until there is something to do."""
        while not self._scheduler.due(now := time.monotonic()):
            self._wake.clear()
            deadline = self._scheduler.next_deadline()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else deadline - now):
                    await self._wake.wait()

    def _step(self) -> None:
        now = time.monotonic()
        step = self._scheduler.plan(now)
        for key in self._sources.keys() - step.resident:
            del self._sources[key]
        for batch in step.batches:
            for span in batch.spans:
                if batch.phase is Phase.SCORE:
                    self._scheduler.score(span.sequence, prompt_scores(span))
                self._scheduler.advance(span, now)
                if span.completes:
                    self._answer(span.sequence, now)
        for group in deliver(self._scheduler.take_events()):
            self._scheduler.cancel(group)

    def _answer(self, sequence: SequenceState, now: float) -> None:
        source = self._sources.get(sequence.key)
        if source is None:
            source = self._sources[sequence.key] = echoed(sequence.request.prompt) or [FILLER]
        for _ in range(self._settings.tokens_per_step):
            if sequence.stage is not Stage.RUNNING:
                return
            token = next_token(sequence, source)
            self._scheduler.accept(sequence, token, token_score(sequence, token), now)
            if sequence.row is not None:
                sequence.row.length = len(sequence.tokens) - 1


def next_token(sequence: SequenceState, source: Sequence[int]) -> int:
    """The next token of the echo, or end-of-sequence after it.

    Where that is not allowed yet, the echo starts over.
    """
    params = sequence.params
    done = sequence.generated
    if done >= max(len(source), params.min_tokens) and not params.ignore_eos:
        return IM_END
    token = source[done % len(source)]
    if done < params.min_tokens and token in params.stop_token_ids:
        return next((other for other in range(256) if other not in params.stop_token_ids), token)
    return token


def token_score(sequence: SequenceState, token: int) -> TokenScore | None:
    """All probability on the token; the others follow by ID, further and further off."""
    return _score(token, sequence.params.logprobs)


def prompt_scores(span: Span) -> list[TokenScore]:
    """Scores of the prompt tokens that a span predicts."""
    prompt = span.sequence.request.prompt
    scored = prompt[span.start + 1 : span.end + 1]
    scores = (_score(token, span.sequence.params.logprobs) for token in scored)
    return [score for score in scores if score is not None]


def _score(token: int, count: int | None) -> TokenScore | None:
    if count is None:
        return None
    others = [(other, UNLIKELY - other) for other in range(count) if other != token]
    return TokenScore(token, 0.0, ((token, 0.0), *others)[:count])


class EchoLoader:
    """Makes echo engines; every folder and none will do."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings or EchoSettings()

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> LoadedModel:
        """Makes an engine; `spec.source` is not looked at."""
        settings = self._settings
        if spec.context_length < 0 or spec.max_batch_size < 0:
            raise InvalidArgument("Context length and batch size can't be negative.")
        engine = EchoEngine(
            EchoSettings(
                max_batch_size=spec.max_batch_size or settings.max_batch_size,
                queue_limit=settings.queue_limit,
                context_length=spec.context_length or settings.context_length,
                tokens_per_step=settings.tokens_per_step,
                step_interval_s=settings.step_interval_s,
            )
        )
        progress(1.0)
        return LoadedModel(engine, EchoText())

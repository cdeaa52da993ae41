"""A sink that remembers."""

import asyncio
from collections.abc import Callable, Sequence

from services.inference.engine import (
    Admitted,
    Ended,
    Engine,
    EngineEvent,
    Failed,
    GroupHandle,
    GroupRequest,
    PromptScored,
    SamplingParams,
    SequenceRequest,
    Token,
    TokenScore,
)


class Recorder:
    """Takes a group's events; tests wait on it."""

    def __init__(self, size: int = 1) -> None:
        self.events: list[EngineEvent] = []
        self.calls = 0
        self.submitting = True
        self.handle: GroupHandle | None = None
        self._size = size
        self._finished: set[int] = set()
        self._news = asyncio.Event()

    def __call__(self, events: Sequence[EngineEvent]) -> None:
        assert not self.submitting, "the sink was called before submit returned"
        assert events, "the sink was called with nothing"
        assert self.failure is None, "an event came after the failure"
        assert len(self.ends) < self._size, "an event came after the end"
        self.calls += 1
        self.events.extend(events)
        self._news.set()

    @property
    def over(self) -> bool:
        return self.failure is not None or len(self.ends | self._finished) == self._size

    @property
    def failure(self) -> Exception | None:
        return next((e.error for e in self.events if isinstance(e, Failed)), None)

    @property
    def ends(self) -> set[int]:
        return {e.index for e in self.events if isinstance(e, Ended)}

    @property
    def admitted(self) -> bool:
        return any(isinstance(e, Admitted) for e in self.events)

    def end(self, index: int = 0) -> Ended:
        return next(e for e in self.events if isinstance(e, Ended) and e.index == index)

    def tokens(self, index: int = 0) -> list[int]:
        return [e.token_id for e in self.events if isinstance(e, Token) and e.index == index]

    def scores(self, index: int = 0) -> list[TokenScore]:
        found = [e.score for e in self.events if isinstance(e, Token) and e.index == index]
        return [score for score in found if score is not None]

    def prompt_scores(self, index: int = 0) -> Sequence[TokenScore]:
        found = [e for e in self.events if isinstance(e, PromptScored) and e.index == index]
        assert len(found) == 1
        return found[0].scores

    def finish(self, index: int) -> None:
        assert self.handle is not None
        self._finished.add(index)
        self.handle.finish(index)

    async def until(self, condition: Callable[[], bool], timeout: float = 20) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def steps(self, count: int = 4) -> None:
        """Waits for steps of the engine: a token comes of each."""
        before = len(self.tokens())
        await self.until(lambda: len(self.tokens()) >= before + count)
        assert not self.over, "it ended by itself, and tells nothing of what else does"

    async def until_over(self) -> "Recorder":
        await self.until(lambda: self.over)
        return self


def submit(
    engine: Engine,
    *sequences: SequenceRequest,
    principal: str = "",
    deadline: float | None = None,
    **more: object,
) -> Recorder:
    recorder = Recorder(len(sequences))
    group = GroupRequest(sequences, principal=principal, deadline=deadline, **more)  # type: ignore[arg-type]
    recorder.handle = engine.submit(group, recorder)
    recorder.submitting = False
    return recorder


def sequence(
    prompt: Sequence[int], max_tokens: int = 8, seed: int = 0, **params: object
) -> SequenceRequest:
    scored = bool(params.pop("prompt_logprobs", False))
    sampling = SamplingParams(max_tokens=max_tokens, seed=seed, **params)  # type: ignore[arg-type]
    return SequenceRequest(prompt, sampling, prompt_logprobs=scored)


def computed(engine: Engine) -> float | None:
    """Sequences that the engine computed, summed over its steps. None: another process does."""
    figures = engine.status().figures
    return None if figures is None else figures.batch.total


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110 - counts change without an event
            await asyncio.sleep(0.002)

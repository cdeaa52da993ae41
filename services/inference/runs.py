"""One running request: engine events in, domain events out."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.errors import DeadlineExceeded
from services.inference.choices import Choice
from services.inference.engine import (
    Admitted,
    Ended,
    EngineEvent,
    Failed,
    GroupHandle,
    GroupRequest,
    PromptScored,
    Reused,
    Token,
)
from services.inference.events import (
    Aborted,
    AnyEvent,
    Delta,
    Done,
    EventSink,
    Finished,
    ReasoningDelta,
    Started,
    Timings,
    TokenLogprob,
    ToolDelta,
    Usage,
    out_of_time,
)
from services.inference.identifiers import unique
from services.inference.registry import ServedModel
from services.inference.scoring import Scorer
from services.metering import Metered, Outcome, Used, outcome_of

_log = logging.getLogger(__name__)

_ALMOST_S = 0.01


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """One prompt and the text that is echoed for it (None: no echo)."""

    ids: Sequence[int]
    echo: str | None = None
    hidden: int = 0
    """Tokens in front that the model adds by itself: they are not echoed."""
    opens_thought: bool | None = None
    """Whether a thought follows it at once; None: none may follow."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All that a request came to after validation."""

    served: ServedModel
    id_prefix: str
    prompts: Sequence[PromptPlan]
    choices: Sequence[Choice]
    """For each prompt, `width` of them."""
    n: int
    width: int
    group: GroupRequest
    """One sequence per choice."""
    scorer: Scorer | None
    """Reports prompt scores; None where none are wanted."""


class Run:
    """Drives a request through its engine.

    Events come out in the engine's order; with `best_of`, the winners' come out when all have
    ended.
    """

    def __init__(
        self, plan: RunPlan, sink: EventSink, metered: Metered, on_end: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._metered = metered
        self._sink = sink
        self._on_end = on_end
        self._choices = plan.choices
        # Not the loop's clock: uvloop's stands still within a callback and counts milliseconds.
        self._clock = time.perf_counter
        self._buffers: list[list[AnyEvent]] | None = None
        if plan.width > plan.n:
            self._buffers = [[] for _ in plan.choices]
        self._handle: GroupHandle | None = None
        self._open = len(plan.choices)
        self._over = False
        self._submitted = self._clock()
        self._admitted: float | None = None
        self._first: float | None = None

    @property
    def over(self) -> bool:
        """True when nothing more comes."""
        return self._over

    def begin(self) -> None:
        """Submits the sequences. Raises what the engine's `submit` raises."""
        try:
            self._handle = self._plan.served.loaded.engine.submit(self._plan.group, self._take)
        except BaseException:
            self._metered.withdraw()
            self._close()
            raise

    def cancel(self) -> None:
        """Ends the request within one engine step. No event follows."""
        deadline = self._plan.group.deadline
        late = deadline is not None and asyncio.get_running_loop().time() >= deadline - _ALMOST_S
        self._stop(outcome_of(asyncio.CancelledError(), is_late=late))

    def _stop(self, outcome: Outcome) -> None:
        if not self._over:
            self._settle(outcome)
            self._close()
            if self._handle is not None:
                self._handle.cancel()

    def pause(self) -> None:
        """Stops generating until `resume`."""
        if self._handle is not None and not self._over:
            self._handle.pause()

    def resume(self) -> None:
        """Generates on."""
        if self._handle is not None and not self._over:
            self._handle.resume()

    def _take(self, events: Sequence[EngineEvent]) -> None:
        """The engine's sink."""
        if self._over:
            return
        out: list[AnyEvent] = []
        try:
            for event in events:
                if type(event) is Token:
                    self._take_token(event, out)
                else:
                    self._take_other(event, out)
                if self._over:
                    break
        except Exception as error:
            _log.exception("A request failed while its output was made.")
            self._stop(Outcome.FAILED)
            out.append(Aborted(error))
        if out:
            self._sink(out)

    def _take_token(self, token: Token, out: list[AnyEvent]) -> None:
        if self._first is None:
            self._first = self._clock()
        choice = self._choices[token.index]
        if choice.ended:
            return
        ended = choice.feed(token, out if self._buffers is None else self._buffers[token.index])
        if ended:
            if self._handle is not None:
                self._handle.finish(token.index)
            self._one_ended(out)

    def _take_other(self, event: EngineEvent, out: list[AnyEvent]) -> None:
        match event:
            case Ended():
                choice = self._choices[event.index]
                if not choice.ended:
                    choice.cached_tokens = event.cached_tokens
                    choice.end(event.reason, self._target(event.index, out))
                    self._one_ended(out)
            case Reused():
                # Not only with the end: a stop text ends a choice without one.
                self._choices[event.index].cached_tokens = event.cached_tokens
            case PromptScored():
                self._echo_scored(event, self._target(event.index, out))
            case Admitted():
                self._start(out)
            case Failed():
                error = event.error
                if isinstance(error, DeadlineExceeded):
                    error = out_of_time(self._used(Outcome.DEADLINE_EXCEEDED))
                self._settle(outcome_of(error))
                self._close()
                out.append(Aborted(error))
            case Token():
                pass

    def _target(self, index: int, out: list[AnyEvent]) -> list[AnyEvent]:
        return out if self._buffers is None else self._buffers[index]

    def _start(self, out: list[AnyEvent]) -> None:
        plan = self._plan
        self._admitted = self._clock()
        id = unique(plan.id_prefix)
        served, count = plan.served, self._prompt_tokens()
        out.append(Started(id, served.id, served.fingerprint, time.time(), count))
        if plan.scorer is not None:
            return
        for index, choice in enumerate(self._choices):
            echo = plan.prompts[index // plan.width].echo
            if echo:
                self._target(index, out).append(Delta(choice.index, echo))

    def _echo_scored(self, event: PromptScored, out: list[AnyEvent]) -> None:
        """Echoes a prompt with the scores of its own tokens, the first one's unset."""
        plan = self._plan
        if plan.scorer is None:
            return
        prompt = plan.prompts[event.index // plan.width]
        shown = prompt.ids[prompt.hidden :]
        scores: list[TokenLogprob] = [plan.scorer.unscored(id) for id in shown[:1]]
        scores += [plan.scorer(score) for score in event.scores[prompt.hidden :]]
        index = self._choices[event.index].index
        out.append(Delta(index, prompt.echo or "", (), tuple(scores)))

    def _one_ended(self, out: list[AnyEvent]) -> None:
        self._open -= 1
        if self._open:
            return
        if self._buffers is not None:
            self._choose(self._buffers, out)
        out.append(self._done(self._settle(Outcome.OK)))
        self._close()

    def _choose(self, buffers: Sequence[Sequence[AnyEvent]], out: list[AnyEvent]) -> None:
        """Lets out the best n of each prompt's candidates, renumbered."""
        plan = self._plan
        for prompt in range(len(plan.prompts)):
            candidates = range(prompt * plan.width, (prompt + 1) * plan.width)
            ranked = sorted(candidates, key=lambda k: self._choices[k].mean_logprob, reverse=True)
            for place, candidate in enumerate(ranked[: plan.n]):
                index = prompt * plan.n + place
                out += [_renumbered(event, index) for event in buffers[candidate]]

    def _done(self, used: Used) -> Done:
        first = self._first if self._first is not None else self._clock()
        read_s = first - self._submitted - used.queued_s
        thought = sum(choice.reasoning_tokens for choice in self._choices)
        return Done(
            Usage(used.prompt_tokens, used.completion_tokens, used.cached_tokens, thought),
            Timings(used.queued_s, read_s, max(used.ran_s - read_s, 0.0)),
        )

    def _settle(self, outcome: Outcome) -> Used:
        """Tells what was used, before anybody is told of the end."""
        used = self._used(outcome)
        self._metered.settle(used)
        return used

    def _used(self, outcome: Outcome) -> Used:
        now = self._clock()
        if self._admitted is None:
            return Used(outcome, queued_s=now - self._submitted)
        prompts = self._plan.prompts
        return Used(
            outcome,
            prompt_tokens=self._prompt_tokens(),
            completion_tokens=sum(choice.token_count for choice in self._choices),
            cached_tokens=sum(map(self._cached, range(len(prompts)))),
            queued_s=self._admitted - self._submitted,
            ran_s=now - self._admitted,
            first_token_s=None if self._first is None else self._first - self._submitted,
            next_token_s=self._next_token_s(now),
        )

    def _next_token_s(self, now: float) -> float | None:
        """Choices run side by side, so the longest says how long a token took."""
        later = max((choice.token_count for choice in self._choices), default=0) - 1
        return (now - self._first) / later if self._first is not None and later > 0 else None

    def _prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self._plan.prompts)

    def _cached(self, prompt: int) -> int:
        """Reused tokens of a prompt: what even its first choice to run found in the cache."""
        width = self._plan.width
        return min(choice.cached_tokens for choice in self._choices[prompt * width :][:width])

    def _close(self) -> None:
        if not self._over:
            self._over = True
            self._on_end()


def _renumbered(event: AnyEvent, index: int) -> AnyEvent:
    if isinstance(event, Delta | ReasoningDelta | ToolDelta | Finished):
        return replace(event, index=index)
    return event

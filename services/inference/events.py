"""What generation yields: events of a stream, and whole answers made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.errors import DeadlineExceeded
from services.inference.requests import ToolCall
from services.metering import Used


class FinishReason(Enum):
    """Why a choice ended; values are those of the proto."""

    STOP = 1
    LENGTH = 2
    TOOL_CALLS = 3
    CONTENT_FILTER = 4
    CANCELLED = 5


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Log-probability of one token, and of the best alternatives."""

    token: str
    token_id: int
    logprob: float | None
    piece: bytes
    """Exact bytes of the token."""
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request.

    A prompt counts once, however many choices continue it. Completion tokens are the tokens that
    were generated: of every choice, discarded ones included, with the end-of-sequence or stop token
    that ended it and the tokens of a stop text.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Sum of prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a request's time went, in seconds."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """Generation was admitted. First event."""

    id: str
    model: str
    fingerprint: str
    create_time: float
    """Unix time."""
    prompt_tokens: int = 0
    """Of all prompts."""


@dataclass(slots=True)
class Delta:
    """Text added to one choice, with the tokens whose text it completes.

    Not frozen, because one is made per token and freezing triples its cost; treat it as if it were.
    """

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """Part of a tool call added to one choice; `id` and `name` come with its first delta."""

    index: int
    call_index: int
    id: str = ""
    name: str = ""
    arguments_json: str = ""


@dataclass(slots=True)
class ReasoningDelta:
    """Thought added to one choice; as little frozen as `Delta`."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """One choice ended."""

    index: int
    reason: FinishReason
    stop_sequence: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """Every choice ended. Last event."""

    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class Aborted:
    """The request failed; last event instead of `Done`. `error` is what is raised to callers."""

    error: Exception


def out_of_time(used: Used) -> DeadlineExceeded:
    """Makes the error of a request whose time is over: it says where the time went."""
    if not used.ran_s:
        where = f"the request waited in the queue for {used.queued_s:.3f} s and never ran"
    else:
        where = (
            f"the request waited in the queue for {used.queued_s:.3f} s and ran for "
            f"{used.ran_s:.3f} s, in which {used.completion_tokens} tokens were generated"
        )
    return DeadlineExceeded(
        f"The deadline passed before the answer was complete: {where}. Allow more time, or ask "
        "for fewer tokens.",
        metadata={
            "queued_s": f"{used.queued_s:.3f}",
            "ran_s": f"{used.ran_s:.3f}",
            "prompt_tokens": str(used.prompt_tokens),
            "completion_tokens": str(used.completion_tokens),
        },
    )


Event = Started | Delta | ReasoningDelta | ToolDelta | Finished | Done
AnyEvent = Event | Aborted
EventSink = Callable[[Sequence[AnyEvent]], None]
"""Takes what one engine step brought for one request. Must not raise and must not block."""


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """One whole choice."""

    index: int
    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason
    stop_sequence: str
    logprobs: tuple[TokenLogprob, ...]
    token_ids: tuple[int, ...]
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: what a stream's events add up to."""

    started: Started
    choices: tuple[ChoiceAnswer, ...]
    usage: Usage
    timings: Timings


class AnswerBuilder:
    """Adds events up to an answer."""

    def __init__(self) -> None:
        self._started: Started | None = None
        self._deltas: dict[int, list[Delta]] = {}
        self._thoughts: dict[int, list[str]] = {}
        self._calls: dict[int, dict[int, list[ToolDelta]]] = {}
        self._finished: dict[int, Finished] = {}

    def add(self, event: Event) -> None:
        """Takes the next event."""
        match event:
            case Delta():
                self._deltas.setdefault(event.index, []).append(event)
            case ReasoningDelta():
                self._thoughts.setdefault(event.index, []).append(event.text)
            case ToolDelta():
                calls = self._calls.setdefault(event.index, {})
                calls.setdefault(event.call_index, []).append(event)
            case Finished():
                self._finished[event.index] = event
            case Started():
                self._started = event
            case Done():
                pass

    def answer(self, done: Done) -> Answer:
        """Returns the sum once `done` has come."""
        if self._started is None:
            raise RuntimeError("An answer ended that had never started.")
        choices = tuple(self._choice(index) for index in sorted(self._finished))
        return Answer(self._started, choices, done.usage, done.timings)

    def _choice(self, index: int) -> ChoiceAnswer:
        deltas = self._deltas.get(index, [])
        calls = self._calls.get(index, {})
        finished = self._finished[index]
        return ChoiceAnswer(
            index=index,
            text="".join(delta.text for delta in deltas),
            tool_calls=tuple(
                ToolCall(
                    id=calls[call][0].id,
                    name=calls[call][0].name,
                    arguments_json="".join(delta.arguments_json for delta in calls[call]),
                )
                for call in sorted(calls)
            ),
            finish_reason=finished.reason,
            stop_sequence=finished.stop_sequence,
            logprobs=tuple(entry for delta in deltas for entry in delta.logprobs),
            token_ids=tuple(token for delta in deltas for token in delta.token_ids),
            reasoning="".join(self._thoughts.get(index, ())),
        )

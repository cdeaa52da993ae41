"""What an engine keeps for each group and each of its sequences while they wait and run."""

from dataclasses import dataclass, field
from enum import Enum, auto

from services.inference.engine import (
    Ended,
    EndReason,
    EngineEvent,
    GroupRequest,
    Priority,
    Reused,
    SamplingParams,
    SequenceRequest,
    Sink,
    Token,
    TokenScore,
)
from services.inference.engines.prefix_index import KvRow


class Stage(Enum):
    """Where a sequence stands."""

    WAITING = auto()
    """Has no row of attention memory: not yet, or it had to give it back."""
    RUNNING = auto()
    """Has a row."""
    OVER = auto()
    """Ended, finished, cancelled or failed; holds nothing."""


@dataclass(eq=False, slots=True)
class SequenceState:
    """One sequence: its tokens, and how many of them have attention state."""

    key: int
    """Identifies it within its scheduler; never reused."""
    group: "GroupState"
    index: int
    request: SequenceRequest
    limit: int
    """Tokens it may generate: `max_tokens`, or less where the context ends."""
    tokens: list[int]
    """Prompt and output."""
    stage: Stage = Stage.WAITING
    row: KvRow | None = None
    """Its attention memory. Losing it makes the sequence start over without losing its output."""
    started: bool = False
    """True once it is settled what its row begins with."""
    progressed: bool = False
    """True when it gained a token since it got its row: it may have to give it back then."""
    cached_tokens: int | None = None
    """Prompt tokens that were reused when it first started."""
    scores: list[TokenScore] = field(default_factory=list[TokenScore])
    """Scores of the prompt so far, when they were asked for."""
    scored: bool = False
    """True when they were reported."""

    @property
    def computed(self) -> int:
        """Leading tokens whose attention state is in memory."""
        return 0 if self.row is None else self.row.length

    @property
    def missing(self) -> int:
        """Tokens without attention state; with one, it is ready to decode."""
        return len(self.tokens) - self.computed

    @property
    def reuses(self) -> bool:
        """True when it may start from what others computed."""
        return self.group.request.reuse and (self.scored or not self.request.prompt_logprobs)

    @property
    def adapter(self) -> str:
        """Adapter that it runs with; empty for the base."""
        return self.group.request.adapter

    @property
    def params(self) -> SamplingParams:
        """How its tokens are chosen."""
        return self.request.params

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt)

    @property
    def generated(self) -> int:
        """Tokens of the output so far."""
        return len(self.tokens) - len(self.request.prompt)

    @property
    def scoring(self) -> bool:
        """True while its prompt is still to be scored."""
        return (
            self.request.prompt_logprobs
            and not self.scored
            and self.computed < self.prompt_length - 1
        )

    def note_reuse(self) -> tuple[EngineEvent, ...]:
        """Notes how much of its prompt was there when it first started, and tells of it."""
        if self.cached_tokens is not None:  # it starts over: what counts is its first time
            return ()
        self.cached_tokens = min(self.computed, self.prompt_length)
        return (Reused(self.index, self.cached_tokens),) if self.cached_tokens else ()

    def accept(
        self, token_id: int, score: TokenScore | None, eos: frozenset[int]
    ) -> tuple[EngineEvent, ...]:
        """Takes one chosen token and tells what that means."""
        if token_id in eos and not self.params.ignore_eos:
            return (self.ended(EndReason.EOS),)
        if token_id in self.params.stop_token_ids:
            return (self.ended(EndReason.STOP_TOKEN),)
        self.tokens.append(token_id)
        self.progressed = True
        token = Token(self.index, token_id, score)
        if self.generated >= self.limit:
            return token, self.ended(EndReason.LENGTH)
        return (token,)

    def ended(self, reason: EndReason) -> Ended:
        """The event of its end."""
        return Ended(self.index, reason, self.cached_tokens or 0)


@dataclass(eq=False, slots=True)
class GroupState:
    """One submitted group."""

    request: GroupRequest
    sink: Sink
    deadline: float | None
    """On the scheduler's clock."""
    sequences: list[SequenceState] = field(default_factory=list[SequenceState])
    order: int = -1
    """Place in the order of admission; -1 before it."""
    paused: bool = False
    over: bool = False
    muted: bool = False
    """Cancelled by its caller: nothing may be delivered any more."""
    outbox: list[EngineEvent] = field(default_factory=list[EngineEvent])
    priority: Priority = field(init=False)
    """Its request's, or a higher one, once it was passed for long."""
    passed: int = 0
    """Groups of higher priorities that were admitted while it was the next of its own."""

    def __post_init__(self) -> None:
        self.priority = self.request.priority

    def staged(self, stage: Stage) -> list[SequenceState]:
        """Its sequences at one stage, by index."""
        return [sequence for sequence in self.sequences if sequence.stage is stage]

"""What an engine keeps for each group and each of its sequences while they wait and run."""

from dataclasses import dataclass, field
from enum import Enum, auto

from services.inference.engine import (
    Ended,
    EndReason,
    EngineEvent,
    GroupRequest,
    SamplingParams,
    SequenceRequest,
    Sink,
    Token,
    TokenScore,
)


class Stage(Enum):
    """Where a sequence stands."""

    WAITING = auto()
    """Has no slot yet."""
    RUNNING = auto()
    """Holds a slot."""
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
    computed: int = 0
    """Leading tokens whose attention state is in memory. Setting it to 0 makes a sequence start
    over without losing its output (preemption)."""
    stage: Stage = Stage.WAITING
    scores: list[TokenScore] = field(default_factory=list[TokenScore])
    """Scores of the prompt so far, when they were asked for."""

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
        return self.request.prompt_logprobs and self.computed < self.prompt_length - 1

    def accept(
        self, token_id: int, score: TokenScore | None, eos: frozenset[int]
    ) -> tuple[EngineEvent, ...]:
        """Takes one chosen token and tells what that means."""
        if token_id in eos and not self.params.ignore_eos:
            return (Ended(self.index, EndReason.EOS),)
        if token_id in self.params.stop_token_ids:
            return (Ended(self.index, EndReason.STOP_TOKEN),)
        self.tokens.append(token_id)
        token = Token(self.index, token_id, score)
        if self.generated >= self.limit:
            return token, Ended(self.index, EndReason.LENGTH)
        return (token,)


@dataclass(eq=False, slots=True)
class GroupState:
    """One submitted group."""

    request: GroupRequest
    sink: Sink
    deadline: float | None
    """On the scheduler's clock."""
    sequences: list[SequenceState] = field(default_factory=list[SequenceState])
    paused: bool = False
    over: bool = False
    muted: bool = False
    """Cancelled by its caller: nothing may be delivered any more."""
    outbox: list[EngineEvent] = field(default_factory=list[EngineEvent])

    def staged(self, stage: Stage) -> list[SequenceState]:
        """Its sequences at one stage, by index."""
        return [sequence for sequence in self.sequences if sequence.stage is stage]

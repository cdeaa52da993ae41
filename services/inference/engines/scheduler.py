"""Decides which sequences run. Knows tokens and slots; no torch, no threads, no clock of its own.

One step of an engine is: `plan`, compute what the step says, `advance`, `score` and `accept` (or
`fail`) for its spans, `take_events`. Callers that share a scheduler between threads hold a lock
around every call.
"""

from collections.abc import Iterable, Sequence
from itertools import count

from services.errors import DeadlineExceeded, QueueFull, Unavailable
from services.inference.engine import (
    Admitted,
    Ended,
    EndReason,
    EngineEvent,
    EngineStatus,
    Failed,
    GroupRequest,
    PromptScored,
    Sink,
    TokenScore,
)
from services.inference.engines.admission import Limits, check_group, sequence_limit
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from services.inference.engines.steps import Span, Step, plan_batches
from services.inference.engines.throughput import Throughput
from services.inference.engines.waiting_line import WaitingLine


class Scheduler:
    """Queue and slots of one engine.

    A group is admitted when all its sequences find a slot. One with more sequences than there are
    slots is admitted when all slots are free; its other sequences get the next ones that become so.
    """

    def __init__(
        self, limits: Limits, *, eos: frozenset[int], prefill_tokens: int, now: float
    ) -> None:
        self._limits = limits
        self._eos = eos
        self._prefill_tokens = prefill_tokens
        self._line = WaitingLine()
        self._running: dict[int, SequenceState] = {}  # by key, in order of admission
        self._partial: list[GroupState] = []  # admitted, with sequences that have no slot yet
        self._waiting = 0
        self._changed = False
        self._throughput = Throughput(now)
        self._outgoing: dict[GroupState, None] = {}
        self._keys = count()

    # What callers ask for.

    def submit(
        self, request: GroupRequest, sink: Sink, *, deadline: float | None, now: float
    ) -> GroupState:
        """Queues a group.

        Raises:
            QueueFull: it would have to wait, and too many wait already.
            ContextLengthExceeded: a prompt leaves no room for one token.
            InvalidArgument: it could never run.
        """
        check_group(request, self._limits)
        excess = len(self._running) + self._waiting + len(request.sequences) - self._limits.capacity
        if excess > 0:
            raise QueueFull(
                f"{self._waiting} sequences wait for this model already: try again later.",
                retry_after_s=self._throughput.retry_after_s(excess, now),
            )
        group = GroupState(request, sink, deadline)
        for index, sequence in enumerate(request.sequences):
            limit = sequence_limit(sequence, self._limits.context_length)
            group.sequences.append(
                SequenceState(
                    next(self._keys), group, index, sequence, limit, list(sequence.prompt)
                )
            )
        self._line.push(group)
        self._waiting += len(group.sequences)
        self._changed = True
        return group

    def cancel(self, group: GroupState) -> None:
        """Ends a group without a word."""
        group.muted = True
        self._end_group(group)

    def finish(self, group: GroupState, index: int, now: float) -> None:
        """Ends one sequence without an `Ended`."""
        if group.over or not 0 <= index < len(group.sequences):
            return
        self._end_sequence(group.sequences[index], now)

    def pause(self, group: GroupState) -> None:
        """Leaves a group's sequences out of the next steps; they keep their slots."""
        group.paused = True

    def resume(self, group: GroupState) -> None:
        """Takes them in again."""
        group.paused = False
        self._changed = True

    def status(self, now: float) -> EngineStatus:
        """Counts at this moment."""
        return EngineStatus(
            running=len(self._running),
            waiting=self._waiting,
            completed_24h=self._throughput.completed_24h(now),
        )

    # What the engine's loop does.

    def due(self, now: float) -> bool:
        """True when a step has something to do."""
        if self._changed or self._outgoing:
            return True
        if any(not sequence.group.paused for sequence in self._running.values()):
            return True
        deadline = self.next_deadline()
        return deadline is not None and deadline <= now

    def next_deadline(self) -> float | None:
        """The earliest deadline of all groups."""
        return min((g.deadline for g in self._groups() if g.deadline is not None), default=None)

    def plan(self, now: float) -> Step:
        """Ends what is past its deadline, admits what fits, and says what to compute."""
        self._changed = False
        self._expire(now)
        self._admit()
        runnable = [s for s in self._running.values() if not s.group.paused]
        return Step(plan_batches(runnable, self._prefill_tokens), frozenset(self._running))

    def advance(self, span: Span, now: float) -> None:
        """Notes that a span's attention state is in memory."""
        sequence = span.sequence
        if sequence.stage is not Stage.RUNNING:
            return
        before = sequence.computed
        sequence.computed = span.end
        prompt = sequence.prompt_length
        if before < prompt <= span.end:
            if sequence.request.prompt_logprobs:
                self._emit(sequence.group, PromptScored(sequence.index, sequence.scores))
                sequence.scores = []
            if sequence.limit <= 0:
                self._emit(sequence.group, Ended(sequence.index, EndReason.LENGTH))
                self._end_sequence(sequence, now)

    def score(self, sequence: SequenceState, scores: Sequence[TokenScore]) -> None:
        """Notes the scores of the next prompt tokens; comes before `advance`."""
        sequence.scores.extend(scores)

    def accept(
        self, sequence: SequenceState, token_id: int, score: TokenScore | None, now: float
    ) -> None:
        """Takes a sequence's next token."""
        if sequence.stage is not Stage.RUNNING:
            return
        events = sequence.accept(token_id, score, self._eos)
        self._emit(sequence.group, *events)
        if isinstance(events[-1], Ended):
            self._end_sequence(sequence, now)

    def fail(self, groups: Iterable[GroupState], error: Exception) -> None:
        """Fails groups."""
        for group in groups:
            if not group.over:
                self._emit(group, Failed(error))
                self._end_group(group)

    def close(self) -> None:
        """Fails everything that waits and runs."""
        error = Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        self.fail(list(self._groups()), error)

    def take_events(self) -> list[tuple[GroupState, list[EngineEvent]]]:
        """Takes the events that came up since the last call, per group."""
        events: list[tuple[GroupState, list[EngineEvent]]] = []
        for group in self._outgoing:
            if group.outbox and not group.muted:
                events.append((group, group.outbox))
                group.outbox = []
        self._outgoing.clear()
        return events

    # Bookkeeping.

    def _groups(self) -> Iterable[GroupState]:
        yield from self._line
        yield from dict.fromkeys([*(s.group for s in self._running.values()), *self._partial])

    def _emit(self, group: GroupState, *events: EngineEvent) -> None:
        group.outbox.extend(events)
        self._outgoing[group] = None

    def _expire(self, now: float) -> None:
        late = [g for g in self._groups() if g.deadline is not None and g.deadline <= now]
        if late:
            self.fail(late, DeadlineExceeded("The deadline passed before the answer was complete."))

    def _admit(self) -> None:
        for group in list(self._partial):
            if not group.paused:
                self._start(group)
        if any(not group.paused for group in self._partial):
            return
        while (group := self._line.head()) is not None:
            size = len(group.staged(Stage.WAITING))
            if self._limits.slots - len(self._running) < min(size, self._limits.slots):
                return
            self._line.take()
            self._emit(group, Admitted())
            self._partial.append(group)
            self._start(group)

    def _start(self, group: GroupState) -> None:
        """Gives free slots to the sequences of an admitted group."""
        waiting = group.staged(Stage.WAITING)
        for sequence in waiting[: self._limits.slots - len(self._running)]:
            sequence.stage = Stage.RUNNING
            self._running[sequence.key] = sequence
            self._waiting -= 1
            waiting.remove(sequence)
        if not waiting:
            self._partial.remove(group)

    def _end_sequence(self, sequence: SequenceState, now: float) -> None:
        if sequence.stage is Stage.OVER:
            return
        if sequence.stage is Stage.RUNNING:
            self._throughput.sequence_ended(now)
        self._drop(sequence)
        group = sequence.group
        if all(other.stage is Stage.OVER for other in group.sequences):
            self._end_group(group)
            self._throughput.group_completed(now)

    def _end_group(self, group: GroupState) -> None:
        if group.over:
            return
        group.over = True
        for sequence in group.sequences:
            self._drop(sequence)
        if group in self._partial:
            self._partial.remove(group)
        elif group in list(self._line):
            self._line.remove(group)

    def _drop(self, sequence: SequenceState) -> None:
        """Takes back a sequence's slot or place."""
        if sequence.stage is Stage.RUNNING:
            del self._running[sequence.key]
        elif sequence.stage is Stage.WAITING:
            self._waiting -= 1
        sequence.stage = Stage.OVER
        self._changed = True

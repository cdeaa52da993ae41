"""Decides which sequences run. Knows tokens and rows; no torch, no threads, no clock of its own.

One step of an engine is: `plan`, do what the step says, `advance`, `score` and `accept` (or `fail`)
for its spans, `take_events`. Callers that share a scheduler between threads hold a lock around
every call.
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
from services.inference.engines.drafts import Drafts
from services.inference.engines.kv_pool import KvPool
from services.inference.engines.residents import Residents
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from services.inference.engines.step_figures import StepFigures
from services.inference.engines.steps import (
    LEAST_PREFILL,
    Span,
    Step,
    decode_batch,
    prompt_batches,
)
from services.inference.engines.throughput import Throughput
from services.inference.engines.turns import Turns


class Scheduler:
    """Queue, steps and events of one engine. Who has memory is `Residents`' business.

    A step computes at most `step_tokens` tokens: one of each sequence that decodes, with the rest
    (at least 16) parts of prompts, and with what those leave up to `speculative_tokens` drafted
    tokens of each sequence that decodes.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        eos: frozenset[int],
        step_tokens: int,
        now: float,
        speculative_tokens: int = 0,
    ) -> None:
        self._limits = limits
        self._eos = eos
        self._step_tokens = step_tokens
        self._residents = Residents(limits, KvPool(limits.pool))
        self._resident: frozenset[int] = frozenset()
        self._turns = Turns()
        self._drafts = Drafts(speculative_tokens, eos)
        self._sequences = 0  # that wait or run
        self._changed = False
        self._throughput = Throughput(now)
        self._figures = StepFigures()
        self._completed: dict[str, Throughput] = {}  # by adapter
        self._outgoing: dict[GroupState, None] = {}
        self._keys = count()

    # What callers ask for.

    def submit(
        self, request: GroupRequest, sink: Sink, *, deadline: float | None, now: float
    ) -> GroupState:
        """Queues a group.

        Raises:
            QueueFull: it would have to wait, and too many wait already.
            ContextLengthExceeded: a prompt leaves no room for one token, or memory could never
                hold prompt and output.
            InvalidArgument: it could never run.
        """
        check_group(request, self._limits)
        excess = self._sequences + len(request.sequences) - self._limits.capacity
        if excess > 0:
            waiting = self._sequences - len(self._residents.running)
            raise QueueFull(
                f"{waiting} sequences wait for this model already: try again later.",
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
        self._residents.push(group)
        self._sequences += len(group.sequences)
        self._changed = True
        return group

    def cancel(self, group: GroupState, asked: float | None = None) -> None:
        """Ends a group without a word; that was `asked` for at this time."""
        self._figures.cancelled(None if group.over else asked)
        group.muted = True
        self._end_group(group)

    def finish(self, group: GroupState, index: int, now: float) -> None:
        """Ends one sequence without an `Ended`."""
        if group.over or not 0 <= index < len(group.sequences):
            return
        self._end_sequence(group.sequences[index], now)

    def pause(self, group: GroupState) -> None:
        """Leaves a group's sequences out of the next steps; they keep their rows unless others of
        its priority or a higher one need them. What waits of it goes on waiting."""
        group.paused = True
        if self._sequences > len(self._residents.running):  # others may take the rows now
            self._changed = True

    def resume(self, group: GroupState) -> None:
        """Takes them in again."""
        group.paused = False
        self._changed = True

    def status(self, now: float, adapter: str = "") -> EngineStatus:
        """Counts at this moment, of what runs with an adapter or without."""
        groups = [g for g in self._residents.groups() if g.request.adapter == adapter]
        done = self._completed.get(adapter)
        return EngineStatus(
            running=sum(len(group.staged(Stage.RUNNING)) for group in groups),
            waiting=sum(len(group.staged(Stage.WAITING)) for group in groups),
            completed_24h=0 if done is None else done.completed_24h(now),
            kv_usage=self._residents.pool.usage,
            figures=None if adapter else self._figures.counted,
        )

    def detach(self, adapter: str) -> None:
        """Fails what waits and runs with an adapter, and forgets what was counted of it."""
        groups = [g for g in self._residents.groups() if g.request.adapter == adapter]
        self.fail(groups, unloaded())
        self._completed.pop(adapter, None)

    # What the engine's loop does.

    def due(self, now: float) -> bool:
        """True when a step has something to do. Is asked when a step is over, and between steps."""
        self._figures.looked(now)
        runs = any(not each.group.paused for each in self._residents.running.values())
        if self._changed or self._outgoing or runs:
            return True
        deadline = self.next_deadline()
        return deadline is not None and deadline <= now

    def next_deadline(self) -> float | None:
        """The earliest deadline of all groups."""
        return min(
            (g.deadline for g in self._residents.groups() if g.deadline is not None), default=None
        )

    def plan(self, now: float) -> Step:
        """Ends what is past its deadline, admits what fits, and says what to compute."""
        self._changed = False
        self._expire(now)
        residents = self._residents
        for group in residents.admit():
            self._emit(group, Admitted())
        self._changed |= bool(residents.make_room())
        for sequence in residents.start():
            self._emit(sequence.group, *sequence.note_reuse())
        active = [s for s in residents.running.values() if s.started and not s.group.paused]
        decoding = [s for s in active if s.missing == 1]
        reading = [s for s in active if s.missing > 1]
        residents.pool.arrange([s.row for s in decoding if s.row is not None])
        budget = max(self._step_tokens - len(decoding), LEAST_PREFILL)
        prompts = prompt_batches(self._turns.order(reading), budget)
        self._turns.note(prompts)
        if residents.running.keys() != self._resident:
            self._resident = frozenset(residents.running)
            self._drafts.retain(self._resident)
        drafts = self._drafts.propose(
            decoding,
            room=self._step_tokens - sum(batch.size for batch in prompts),
            columns=residents.pool.shape[1],
        )
        operations = residents.pool.take_operations()
        batches = (*prompts, *decode_batch(decoding, drafts))
        self._figures.planned(batches, now)
        return Step(operations, batches, self._resident)

    def advance(self, span: Span, now: float, matched: int = 0) -> None:
        """Notes that a span's attention state is in memory.

        Of what was drafted, the first `matched` tokens were right: `accept` is to be called for
        them and one more. The others are forgotten, and their columns written over.
        """
        sequence = span.sequence
        if sequence.row is None:
            return
        if span.draft:
            self._drafts.note(sequence.key, len(span.draft), matched)
        before = sequence.computed
        sequence.row.length = span.own + matched
        prompt = sequence.prompt_length
        if before < prompt <= span.own:
            if sequence.request.prompt_logprobs and not sequence.scored:
                self._emit(sequence.group, PromptScored(sequence.index, sequence.scores))
                sequence.scores, sequence.scored = [], True
            if sequence.limit <= 0:
                self._emit(sequence.group, sequence.ended(EndReason.LENGTH))
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
                self._end_group(group, keep=False)

    def memory_lost(self, error: Exception) -> None:
        """Fails what runs, because the attention memory is in an unknown state; starts it anew."""
        self.fail({sequence.group for sequence in self._residents.running.values()}, error)
        self._residents.pool.forget()

    def close(self) -> None:
        """Fails everything that waits and runs."""
        self.fail(list(self._residents.groups()), unloaded())

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

    def _emit(self, group: GroupState, *events: EngineEvent) -> None:
        group.outbox.extend(events)
        self._outgoing[group] = None

    def _expire(self, now: float) -> None:
        late = [g for g in self._residents.groups() if g.deadline is not None and g.deadline <= now]
        self.fail(late, DeadlineExceeded("The deadline passed before the answer was complete."))

    def _end_sequence(self, sequence: SequenceState, now: float) -> None:
        if sequence.stage is Stage.OVER:
            return
        if sequence.stage is Stage.RUNNING:
            self._throughput.sequence_ended(now)
        self._drop(sequence, keep=True)
        group = sequence.group
        if all(other.stage is Stage.OVER for other in group.sequences):
            self._end_group(group)
            self._completed.setdefault(group.request.adapter, Throughput(now)).group_completed(now)

    def _end_group(self, group: GroupState, *, keep: bool = True) -> None:
        if group.over:
            return
        group.over = True
        for sequence in group.sequences:
            self._drop(sequence, keep=keep)
        self._residents.remove(group)

    def _drop(self, sequence: SequenceState, *, keep: bool) -> None:
        """Takes back a sequence's row or place."""
        if sequence.stage is Stage.OVER:
            return
        self._residents.drop(sequence, keep=keep)
        sequence.stage = Stage.OVER
        self._sequences -= 1
        self._changed = True


def unloaded() -> Unavailable:
    """What callers are told whose model goes away."""
    return Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)

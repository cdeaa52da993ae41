"""Decides which sequences run where something else batches them: an OpenVINO pipeline, or Triton.
Knows neither, and no clock of its own.

The pipeline batches, pages and preempts by itself; this holds back what it must not see yet, and
turns its tokens into events. Everything happens on the event loop's thread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    Priority,
    Sink,
    TokenScore,
)
from services.inference.engines.admission import Limits, check_group, sequence_limit
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from services.inference.engines.throughput import Throughput
from services.inference.engines.waiting_line import WaitingLine

_FALLING = sorted(Priority, key=lambda priority: priority.value, reverse=True)


@dataclass(frozen=True, slots=True)
class Changes:
    """What the pipeline is to be told."""

    added: list[SequenceState]
    dropped: list[int]


class AdmissionQueue:
    """Queue and slots of one engine.

    A group is admitted when all its sequences find a slot. One with more sequences than there are
    slots is admitted when all slots are free; its other sequences get the next ones that become so.
    """

    def __init__(self, limits: Limits, *, eos: frozenset[int], now: float) -> None:
        self._limits = limits
        self._eos = eos
        self._line = WaitingLine()
        self._running: dict[int, SequenceState] = {}
        self._partial: list[GroupState] = []  # admitted, with sequences that have no slot yet
        self._waiting = 0
        self._dropped: list[int] = []
        self._held: dict[int, list[tuple[int, TokenScore | None]]] = {}
        self._outgoing: dict[GroupState, None] = {}
        self._throughput = Throughput(now)
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
        for index, one in enumerate(request.sequences):
            limit = sequence_limit(one, self._limits.context_length)
            tokens = list(one.prompt)
            group.sequences.append(
                SequenceState(next(self._keys), group, index, one, limit, tokens)
            )
        self._line.push(group)
        self._waiting += len(group.sequences)
        return group

    def cancel(self, group: GroupState) -> None:
        """Ends a group without a word."""
        group.muted = True
        self._end_group(group)

    def finish(self, group: GroupState, index: int, now: float) -> None:
        """Ends one sequence without an `Ended`."""
        if not group.over and 0 <= index < len(group.sequences):
            self._end_sequence(group.sequences[index], now)

    def pause(self, group: GroupState) -> list[int]:
        """Keeps a group's tokens back; the keys of its running sequences."""
        group.paused = True
        return [sequence.key for sequence in group.staged(Stage.RUNNING)]

    def resume(self, group: GroupState, now: float) -> list[int]:
        """Gives out what was kept back; the keys of its running sequences."""
        group.paused = False
        running = group.staged(Stage.RUNNING)
        for sequence in running:
            for token_id, score in self._held.pop(sequence.key, ()):
                self._accept(sequence, token_id, score, now)
        return [sequence.key for sequence in running]

    def status(self, now: float, *, adapter: str = "") -> EngineStatus:
        """Counts at this moment: of the model itself, or of one of its adapters. What has been
        completed is counted for all of them together, with the model."""
        waiting = (group for group in self._groups() if group.request.adapter == adapter)
        return EngineStatus(
            running=sum(one.adapter == adapter for one in self._running.values()),
            waiting=sum(len(group.staged(Stage.WAITING)) for group in dict.fromkeys(waiting)),
            completed_24h=0 if adapter else self._throughput.completed_24h(now),
        )

    # What the engine's turn does.

    def plan(self, now: float) -> Changes:
        """Ends what is past its deadline and admits what fits."""
        self._expire(now)
        added = self._admit()
        dropped, self._dropped = self._dropped, []
        return Changes(added, dropped)

    def next_deadline(self) -> float | None:
        """The earliest deadline of all groups."""
        return min((g.deadline for g in self._groups() if g.deadline is not None), default=None)

    def accept(
        self, key: int, tokens: Sequence[int], logprobs: Sequence[float], now: float
    ) -> None:
        """Takes tokens of a sequence."""
        scores = [TokenScore(*one) for one in zip(tokens, _negative(logprobs), strict=False)]
        self.accept_scored(key, tokens, scores or [None] * len(tokens), now)

    def accept_scored(
        self, key: int, tokens: Sequence[int], scores: Sequence[TokenScore | None], now: float
    ) -> None:
        """Takes tokens of a sequence, each with its score."""
        sequence = self._running.get(key)
        if sequence is None:
            return
        for token_id, score in zip(tokens, scores, strict=True):
            if sequence.group.paused:
                self._held.setdefault(key, []).append((token_id, score))
            else:
                self._accept(sequence, token_id, score, now)

    def end(self, key: int, reason: EndReason, now: float) -> None:
        """Takes that a sequence ended by what its tokens don't tell."""
        sequence = self._running.get(key)
        if sequence is not None:
            self._emit(sequence.group, sequence.ended(reason))
            self._end_sequence(sequence, now)

    def lost(self, key: int, error: Exception) -> None:
        """Fails the group of a sequence that the pipeline gave up."""
        sequence = self._running.get(key)
        if sequence is not None:
            self.fail([sequence.group], error)

    def fail(self, groups: Iterable[GroupState], error: Exception) -> None:
        """Fails groups."""
        for group in groups:
            if not group.over:
                self._emit(group, Failed(error))
                self._end_group(group)

    def fail_running(self, error: Exception) -> None:
        """Fails every group that runs."""
        self.fail(list(dict.fromkeys(s.group for s in self._running.values())), error)

    def close(self, error: Unavailable) -> None:
        """Fails everything that waits and runs."""
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

    def _accept(
        self, sequence: SequenceState, token_id: int, score: TokenScore | None, now: float
    ) -> None:
        if sequence.stage is not Stage.RUNNING:
            return
        if sequence.limit <= 0:  # only the prompt was to be read
            events: tuple[EngineEvent, ...] = (sequence.ended(EndReason.LENGTH),)
        else:
            events = sequence.accept(token_id, score, self._eos)
        self._emit(sequence.group, *events)
        if isinstance(events[-1], Ended):
            self._end_sequence(sequence, now)

    def _expire(self, now: float) -> None:
        late = [g for g in self._groups() if g.deadline is not None and g.deadline <= now]
        if late:
            self.fail(late, DeadlineExceeded("The deadline passed before the answer was complete."))

    def _admit(self) -> list[SequenceState]:
        started: list[SequenceState] = []
        for group in list(self._partial):
            if not group.paused:
                started += self._start(group)
        while not any(not group.paused for group in self._partial):
            head = next((p for p in _FALLING if self._line.head(p) is not None), None)
            group = None if head is None else self._line.head(head)
            if head is None or group is None:
                break
            size = len(group.staged(Stage.WAITING))
            if self._limits.slots - len(self._running) < min(size, self._limits.slots):
                break
            self._line.take(head)
            self._emit(group, Admitted())
            self._partial.append(group)
            started += self._start(group)
        return started

    def _start(self, group: GroupState) -> list[SequenceState]:
        """Gives free slots to the sequences of an admitted group."""
        waiting = group.staged(Stage.WAITING)
        started = waiting[: self._limits.slots - len(self._running)]
        for sequence in started:
            sequence.stage = Stage.RUNNING
            self._running[sequence.key] = sequence
            self._waiting -= 1
        if len(started) == len(waiting):
            self._partial.remove(group)
        return started

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
            self._held.pop(sequence.key, None)
            self._dropped.append(sequence.key)
        elif sequence.stage is Stage.WAITING:
            self._waiting -= 1
        sequence.stage = Stage.OVER


def _negative(logprobs: Sequence[float]) -> list[float]:
    """Rounding may have made them a little more than they can be."""
    return [min(0.0, one) for one in logprobs]

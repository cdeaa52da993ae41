"""The sequences that have a row of attention memory, and who gets one next.

Of those that wait, higher priorities go first; within a priority, groups that are admitted already
(their sequences had to wait for a row, or give it back) before those of the line. Nobody overtakes
the first that does not fit. A group takes rows away from lower priorities, and from paused groups
of its own: those come back, in their order of admission, when they are resumed. Paused groups take
nothing. Whoever was passed for long has the priority of those who passed it.
"""

from collections.abc import Collection, Iterator, Sequence

from services.inference.engine import Priority
from services.inference.engines.admission import Limits
from services.inference.engines.kv_pool import KvPool
from services.inference.engines.prefix_index import BLOCK
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from services.inference.engines.waiting_line import WaitingLine, grown_old

HEADROOM = 32
"""Tokens that a sequence must be able to gain when it gets a row, lest it lose it at once."""

_HIGHEST_FIRST = sorted(Priority, key=lambda priority: priority.value, reverse=True)


class Residents:
    """Gives rows, takes them away, and says where a sequence begins to compute.

    A group is admitted when rows for all its sequences fit. One with more sequences than could ever
    run together is admitted when as many as can do; the others get the next rows.
    """

    def __init__(self, limits: Limits, pool: KvPool) -> None:
        self._slots = limits.slots
        self._reuse = limits.reuse
        self._pool = pool
        self._line = WaitingLine()
        self._admitted: list[GroupState] = []  # with sequences that wait, in order of admission
        self._admissions = 0
        self._starting: dict[int, SequenceState] = {}
        self.running: dict[int, SequenceState] = {}
        """By key, the last that got a row last."""

    @property
    def pool(self) -> KvPool:
        """The books of the memory."""
        return self._pool

    def groups(self) -> Iterator[GroupState]:
        """All that wait or run."""
        yield from self._line
        yield from dict.fromkeys([*(s.group for s in self.running.values()), *self._admitted])

    def push(self, group: GroupState) -> None:
        """Lets a new group wait."""
        self._line.push(group)

    def remove(self, group: GroupState) -> None:
        """Takes a group out that is over; its sequences were dropped."""
        if group in self._admitted:
            self._admitted.remove(group)
        elif group.order < 0:
            self._line.remove(group)

    def drop(self, sequence: SequenceState, *, keep: bool) -> None:
        """Takes back a sequence's row, if it has one."""
        if sequence.row is None:
            return
        del self.running[sequence.key]
        self._starting.pop(sequence.key, None)
        self._pool.release(sequence.row, keep=keep and self._shares(sequence))
        sequence.row = None
        sequence.started = sequence.progressed = False

    def admit(self) -> list[GroupState]:
        """Gives rows to those that wait; returns the groups that left the line by it."""
        admitted: list[GroupState] = []
        for priority in _HIGHEST_FIRST:
            for group in [g for g in self._admitted if g.priority is priority]:
                if not group.paused and not self._seat(group):
                    return admitted
            while (group := self._line.head(priority)) is not None:
                waiting = group.staged(Stage.WAITING)
                most = min(self._slots, self._pool.most_rows(_need(waiting)))
                if not self._room(waiting[:most]):
                    return admitted
                self._line.take(priority)
                self._age(priority)
                group.order = self._admissions
                self._admissions += 1
                self._admitted.append(group)
                admitted.append(group)
                if not self._seat(group):
                    return admitted
        return admitted

    def make_room(self) -> list[SequenceState]:
        """Sees to columns for every sequence's next token; returns those that lost their row."""
        preempted: list[SequenceState] = []
        while True:
            longest = max(
                (len(s.tokens) for s in self.running.values() if not s.group.paused), default=0
            )
            if self._pool.fits(len(self.running), longest):
                self._pool.widen(longest)
                return preempted
            victim = min(self._preemptible(), key=_rank)
            self.preempt(victim)
            preempted.append(victim)

    def start(self) -> Iterator[SequenceState]:
        """Settles what rows begin with, as far as it can be settled; yields their sequences.

        One whose prompt begins like another's that is being read waits for that one.
        """
        for sequence in list(self._starting.values()):
            row = sequence.row
            if row is None or sequence.group.paused:
                continue
            found = None
            if self._reuse and sequence.reuses:
                found = self._pool.find(sequence.tokens, sequence.adapter)
                have = row.length if found is None else max(found.length, row.length)
                coming = self._pool.promised(
                    sequence.tokens, self._readers(sequence), sequence.adapter
                )
                if coming is not None and coming.length >= have + BLOCK:
                    continue
            self._pool.start(row, found, share=self._shares(sequence))
            del self._starting[sequence.key]
            sequence.started = True
            yield sequence

    def preempt(self, sequence: SequenceState) -> None:
        """Makes a sequence wait again, before the others of its priority; its tokens stay."""
        self.drop(sequence, keep=True)
        sequence.stage = Stage.WAITING
        if not sequence.scored:
            sequence.scores = []
        group = sequence.group
        if group not in self._admitted:
            self._admitted.append(group)
            self._admitted.sort(key=lambda group: group.order)

    def _age(self, priority: Priority) -> None:
        """Notes that a group was admitted, for those that gave back their rows for such, or wait
        for more."""
        for group in self._admitted:
            if group.priority.value < priority.value and not group.paused:
                grown_old(group, priority)

    def _seat(self, group: GroupState) -> bool:
        """Gives rows to the waiting sequences of an admitted group; False when some still wait."""
        waiting = group.staged(Stage.WAITING)
        while waiting and self._room(waiting[:1]):
            sequence = waiting.pop(0)
            columns = max(_need([sequence]), _need(self.running.values()))
            sequence.row = self._pool.acquire(
                sequence.key,
                sequence.tokens,
                columns,
                reuse=self._reuse and sequence.reuses,
                adapter=sequence.adapter,
            )
            sequence.stage = Stage.RUNNING
            self.running[sequence.key] = sequence
            self._starting[sequence.key] = sequence
        if not waiting:
            self._admitted.remove(group)
        return not waiting

    def _room(self, new: Sequence[SequenceState]) -> bool:
        """Whether these find rows, if need be by taking others': those of lower priorities, and
        of their own those that nobody reads."""
        rest = dict(self.running)
        victims: list[SequenceState] = []
        priority = new[0].group.priority.value
        yielding = [s for s in self._preemptible() if _yields(s, priority)]
        yielding.sort(key=_rank, reverse=True)
        while not self._fit([*rest.values(), *new]):
            if not yielding:
                return False
            victim = yielding.pop()
            del rest[victim.key]
            victims.append(victim)
        for victim in victims:
            self.preempt(victim)
        return True

    def _fit(self, sequences: Sequence[SequenceState]) -> bool:
        count = len(sequences)
        return count <= self._slots and self._pool.fits(count, _need(sequences))

    def _shares(self, sequence: SequenceState) -> bool:
        return self._reuse and sequence.group.request.reuse

    def _preemptible(self) -> list[SequenceState]:
        """Those that gained something since they got their row, and those that are paused."""
        return [s for s in self.running.values() if s.progressed or s.group.paused]

    def _readers(self, sequence: SequenceState) -> set[int]:
        """Sequences that read their prompts now and can be waited for."""
        priority = sequence.group.priority.value
        return {
            other.key
            for other in self.running.values()
            if other.started
            and other.missing > 1
            and not other.group.paused
            and other.group.priority.value >= priority
        }


def _need(sequences: Collection[SequenceState]) -> int:
    """Columns for these sequences and a few more tokens each, as far as they may have more."""
    return max(
        (
            min(len(s.tokens) + HEADROOM, max(len(s.tokens), s.prompt_length + s.limit))
            for s in sequences
        ),
        default=0,
    )


def _yields(sequence: SequenceState, priority: int) -> bool:
    """Whether it gives its row to one of this priority that waits."""
    own = sequence.group.priority.value
    return own < priority or (own == priority and sequence.group.paused)


def _rank(sequence: SequenceState) -> tuple[int, bool, int, int]:
    """The lowest loses its row first: low priority, then paused, then admitted last."""
    group = sequence.group
    return (group.priority.value, not group.paused, -group.order, -sequence.index)

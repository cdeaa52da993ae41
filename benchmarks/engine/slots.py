"""Continuous batching as llama.cpp's server does it: of each batch, one token of each caller that
generates, and with what is left parts of prompts, first come first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.engine.arrivals import Arrivals
from benchmarks.engine.jobs import Job, Times

Entry = tuple[int, int, int, bool]
"""Token, its position, its sequence, and whether the next token is wanted."""
Decode = Callable[[Sequence[Entry]], dict[int, int]]
"""Computes a batch; the next token of each sequence of which it is wanted."""


@dataclass
class _Slot:
    job: Job
    times: list[float]
    next: list[int] = field(default_factory=list[int])
    """Tokens that are to be computed: what is left of the prompt, or the last token."""
    place: int = 0


def serve(
    jobs: Sequence[Job],
    decode: Decode,
    drop: Callable[[int], None],
    *,
    slots: int,
    batch: int,
    arrivals: Arrivals | None = None,
) -> Times:
    """Runs jobs in at most so many slots, which are sequences 0, 1, …

    Args:
        jobs: what is asked for.
        decode: computes a batch.
        drop: forgets a sequence.
        slots: sequences that run at once; fewer than `batch`.
        batch: most tokens of a batch.
        arrivals: when they come; from now on where it is left out.
    """
    arrivals = arrivals or Arrivals(jobs)
    times: Times = [[] for _ in jobs]
    free = list(reversed(range(slots)))
    running: dict[int, _Slot] = {}
    while arrivals or running:
        for index in arrivals.take(len(free), wait=not running):
            running[free.pop()] = _Slot(jobs[index], times[index], list(jobs[index].prompt))
        chosen = decode(_entries(running, batch))
        now = arrivals.now()
        for sequence, token in chosen.items():
            slot = running[sequence]
            slot.times.append(now)
            slot.next = [token]
            if len(slot.times) == slot.job.tokens:
                drop(sequence)
                free.append(sequence)
                del running[sequence]
    return times


def _entries(running: dict[int, _Slot], batch: int) -> list[Entry]:
    """The next batch; its tokens count as computed."""
    entries: list[Entry] = []
    for sequence, slot in sorted(running.items(), key=lambda item: not item[1].times):
        part = slot.next[: batch - len(entries)]
        slot.next = slot.next[len(part) :]
        for offset, token in enumerate(part):
            last = not slot.next and offset == len(part) - 1
            entries.append((token, slot.place + offset, sequence, last))
        slot.place += len(part)
    return entries

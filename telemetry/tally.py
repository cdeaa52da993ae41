"""Histograms that cost next to nothing to fill: for the loops of engines.

No lock and no labels: one thread adds, and a scrape reads, which may miss what is being added.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
STEP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
CANCEL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Tally:
    """Counts values by size."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Takes a value in."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    @property
    def count(self) -> int:
        """Values so far."""
        return sum(self._counts)

    @property
    def total(self) -> float:
        """Their sum."""
        return self._total

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, and how many values are no larger."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else str(bound), below))
        return found


@dataclass(frozen=True, slots=True)
class Figures:
    """What the loop of an engine counts."""

    batch: Tally = field(default_factory=lambda: Tally(SIZES))
    """Of each step: sequences, inputs or images."""
    step_s: Tally = field(default_factory=lambda: Tally(STEP_S))
    """How long it took."""
    cancel_s: Tally = field(default_factory=lambda: Tally(CANCEL_S))
    """From a request's cancellation to the next step, which computes nothing of it."""

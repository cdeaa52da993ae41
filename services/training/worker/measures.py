"""What is measured of a training: means over what lies between two reports. No torch."""

import math
import time
from collections.abc import Mapping

_FADING = 0.98
"""How much a step's speed counts beside the next one's."""


class Sums:
    """Weighted sums, which become means.

    They are kept in checkpoints, so that the numbers are the same however often a job was begun.
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self._sums = dict(sums or {})

    def add(self, name: str, value: float, weight: float) -> None:
        """Takes a value in."""
        self._sums[name] = self._sums.get(name, 0.0) + value * weight
        self._sums[f"{name}/weight"] = self._sums.get(f"{name}/weight", 0.0) + weight

    def state(self) -> dict[str, float]:
        """What is to be kept."""
        return dict(self._sums)

    def take(self) -> dict[str, float]:
        """The means, which begin anew."""
        means = {
            name: value / self._sums[f"{name}/weight"]
            for name, value in self._sums.items()
            if not name.endswith("/weight") and self._sums[f"{name}/weight"]
        }
        self._sums.clear()
        return means


class Pace:
    """How long the rest will take, from the time that tokens took in this worker's life.

    The first step doesn't count: it is slower than the others.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._time_s = 0.0
        self._tokens = 0.0

    def step(self, tokens: int, now: float | None = None) -> None:
        """Takes in that a step of so many tokens is done."""
        now = time.monotonic() if now is None else now
        if self._last is not None:
            self._time_s = self._time_s * _FADING + now - self._last
            self._tokens = self._tokens * _FADING + tokens
        self._last = now

    def remaining_s(self, tokens: int) -> float | None:
        """Time for so many tokens; None before it can be told."""
        return tokens * self._time_s / self._tokens if self._tokens else None


def finite(value: float) -> bool:
    """Whether a number is one."""
    return math.isfinite(value)

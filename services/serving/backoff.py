"""Waits that grow from one failure to the next."""

import random


class Backoff:
    """Doubles from `least` to `most` seconds; each wait is shortened at random by up to a half."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._next_s = least_s

    def next(self) -> float:
        """Returns the next wait."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, self._most_s)
        return wait_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begins anew."""
        self._next_s = self._least_s

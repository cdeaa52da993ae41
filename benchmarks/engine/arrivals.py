"""Jobs as they come, for contestants that run a loop of their own."""

import time
from collections.abc import Callable, Sequence

from benchmarks.engine.jobs import Job


class Arrivals:
    """Jobs that wait to be taken, by their places in the list.

    Args:
        jobs: all of them.
        clock: seconds.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._jobs = jobs
        self._clock = clock
        self._sleep = sleep
        self._start = clock()
        self._waiting = sorted(range(len(jobs)), key=lambda place: jobs[place].at_s)

    def __bool__(self) -> bool:
        """Whether some were not taken yet."""
        return bool(self._waiting)

    def now(self) -> float:
        """Seconds after the start."""
        return self._clock() - self._start

    def take(self, most: int, *, wait: bool) -> list[int]:
        """Takes those that have come; waits for the next one where `wait` says so."""
        if wait and self._waiting and most:
            self._sleep(max(0.0, self._jobs[self._waiting[0]].at_s - self.now()))
        now = self.now()
        come = [place for place in self._waiting if self._jobs[place].at_s <= now]
        if wait and not come:  # a sleep may end early by a little
            come = self._waiting[:1]
        taken, self._waiting = come[:most], [p for p in self._waiting if p not in come[:most]]
        return taken

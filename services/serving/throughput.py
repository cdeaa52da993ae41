"""How fast an engine gets work done: for `retry_after_s` and the count of the last 24 hours."""

from collections import deque

from telemetry.tally import Figures

SHORTEST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
_BATCHES = 64
_DAY_MINUTES = 24 * 60


class Throughput:
    """Measures the last batches, and counts the jobs of a day, in bounded memory."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, float]] = deque(maxlen=_BATCHES)  # work, seconds
        self._minutes: deque[tuple[int, int]] = deque()  # minute, jobs
        self.figures = Figures()
        """Of all batches."""

    def batch_done(self, work: float, seconds: float, size: int = 1) -> None:
        """Takes in how long a batch took, and how many inputs or images were in it."""
        self._batches.append((work, seconds))
        self.figures.batch.add(size)
        self.figures.step_s.add(seconds)

    def job_done(self, now: float) -> None:
        """Counts a job that was answered."""
        minute = int(now // 60)
        if self._minutes and self._minutes[-1][0] == minute:
            self._minutes[-1] = (minute, self._minutes[-1][1] + 1)
        else:
            self._minutes.append((minute, 1))
        self._prune(minute)

    def jobs_24h(self, now: float) -> int:
        """Jobs answered during the last 24 hours."""
        self._prune(int(now // 60))
        return sum(jobs for _, jobs in self._minutes)

    def retry_after_s(self, work: float) -> float:
        """Seconds until so much work will have been done, at the rate of the last batches."""
        done = sum(work for work, _ in self._batches)
        seconds = sum(seconds for _, seconds in self._batches)
        # Nothing measured yet: as if a second did it.
        wait_s = work * seconds / done if done else 1.0
        return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, wait_s))

    def _prune(self, minute: int) -> None:
        while self._minutes and self._minutes[0][0] < minute - _DAY_MINUTES:
            self._minutes.popleft()

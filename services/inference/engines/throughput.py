"""How fast an engine gets work done: for `retry_after_s` and the count of the last 24 hours."""

from collections import deque

WINDOW_S = 60.0
DAY_MINUTES = 24 * 60
SHORTEST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0


class Throughput:
    """Counts ended sequences over a minute and completed groups over a day, in bounded memory."""

    def __init__(self, now: float) -> None:
        self._start = now
        self._seconds: deque[tuple[int, int]] = deque()  # (second, sequences)
        self._minutes: deque[tuple[int, int]] = deque()  # (minute, groups)

    def sequence_ended(self, now: float) -> None:
        """Counts a sequence that gave its slot back."""
        _count(self._seconds, int(now))

    def group_completed(self, now: float) -> None:
        """Counts a group that ended without failure."""
        _count(self._minutes, int(now // 60))
        _prune(self._minutes, int(now // 60) - DAY_MINUTES)

    def completed_24h(self, now: float) -> int:
        """Groups that ended without failure during the last 24 hours."""
        _prune(self._minutes, int(now // 60) - DAY_MINUTES)
        return sum(count for _, count in self._minutes)

    def retry_after_s(self, places: int, now: float) -> float:
        """Seconds until `places` sequences will have ended at the rate of the last minute."""
        _prune(self._seconds, int(now - WINDOW_S))
        ended = sum(count for _, count in self._seconds)
        # Nothing measured yet: as if one sequence ended with the next second.
        span = min(WINDOW_S, max(1.0, now - self._start))
        rate = max(ended, 1) / span
        return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, places / rate))


def _count(buckets: deque[tuple[int, int]], bucket: int) -> None:
    if buckets and buckets[-1][0] == bucket:
        buckets[-1] = (bucket, buckets[-1][1] + 1)
    else:
        buckets.append((bucket, 1))


def _prune(buckets: deque[tuple[int, int]], oldest: int) -> None:
    while buckets and buckets[0][0] < oldest:
        buckets.popleft()

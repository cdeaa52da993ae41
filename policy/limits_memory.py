"""Counts limits in the memory of one process."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from limits.aio.storage import MovingWindowSupport, Storage

from policy.limits_port import MINUTE_S, Full, Level, Reserved, Unknown, Window

_SWEEP_S = 60.0


class MovingWindows(Storage, MovingWindowSupport):
    """Times of requests, for the library's moving window.

    In place of its own MemoryStorage, which hands every key to a thread again and again to drop
    what is over, and may drop one too many while a request is counted.
    """

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._times: dict[str, tuple[deque[float], float]] = {}
        self._swept = clock()

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        """Errors of the storage: it has none."""
        return ()

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Counts `amount` more, if that makes no more than `limit` in the last `expiry` seconds."""
        now = self._clock()
        times = self._live(key, expiry, now)
        if len(times) + amount > limit:
            return False
        times.extend([now] * amount)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """Returns when the window began, and how many are in it."""
        now = self._clock()
        times = self._live(key, expiry, now)
        return (times[0] if times else now), len(times)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Not kept: only moving windows are."""
        raise NotImplementedError("Only moving windows are counted here.")

    async def get(self, key: str) -> int:
        """How many were counted, over or not."""
        return len(self._times[key][0]) if key in self._times else 0

    async def get_expiry(self, key: str) -> float:
        """When the last of a key is over."""
        times, expiry = self._times.get(key, (deque[float](), 0.0))
        return times[-1] + expiry if times else self._clock()

    async def check(self) -> bool:
        """It is there."""
        return True

    async def reset(self) -> int | None:
        """Forgets everything."""
        count = len(self._times)
        self._times.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forgets a key."""
        self._times.pop(key, None)

    def _live(self, key: str, expiry: float, now: float) -> deque[float]:
        if now - self._swept >= _SWEEP_S:
            self._swept = now
            self._times = {
                key: (times, span)
                for key, (times, span) in self._times.items()
                if times and times[-1] + span > now
            }
        times, _ = self._times.setdefault(key, (deque(), expiry))
        while times and times[0] <= now - expiry:
            times.popleft()
        return times


@dataclass(slots=True)
class _Book:
    """One window of one owner."""

    ends_at: float | None
    used: int = 0
    """Settled; of days and months only."""
    open: OrderedDict[str, tuple[float, int]] = field(
        default_factory=OrderedDict[str, tuple[float, int]]
    )
    """What counts by itself: member → (when it stops, amount)."""
    sum: int = 0
    """Of what is open."""

    def expire(self, now: float) -> None:
        if self.ends_at is not None:
            return
        while self.open:
            member, (until, amount) = next(iter(self.open.items()))
            if until > now:
                return
            del self.open[member]
            self.sum -= amount

    def put(self, member: str, until: float, amount: int) -> None:
        self.open[member] = (until, amount)
        self.sum += amount

    def settle(self, member: str, amount: int) -> None:
        until, reserved = self.open.get(member, (0.0, 0))
        self.sum -= reserved
        if self.ends_at is not None:
            self.open.pop(member, None)
            self.used += amount
        elif member in self.open:
            self.open[member] = (until, amount)
            self.sum += amount

    def level(self, now: float) -> Level:
        if self.ends_at is not None:
            return Level(self.used + self.sum, max(self.ends_at - now, 0.0))
        last = next((until for until, amount in reversed(self.open.values()) if amount), now)
        return Level(self.sum, max(last - now, 0.0))

    def wait_s(self, excess: int, now: float) -> float:
        """Seconds until so much more is free."""
        if self.ends_at is not None:
            return max(self.ends_at - now, 0.0)
        for until, amount in self.open.values():
            excess -= amount
            if excess <= 0:
                return max(until - now, 0.0)
        return MINUTE_S


class MemoryCounters:
    """Counts what runs and what is reserved in this process. What it does takes no turn of the
    event loop, so that nothing comes between."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._leases: dict[str, set[str]] = {}
        self._books: dict[tuple[str, str], _Book] = {}
        self._swept = clock()

    async def lease(self, owner: str, member: str, limit: int) -> bool:
        """Takes one of `limit` places."""
        held = self._leases.setdefault(owner, set())
        if len(held) >= limit:
            return False
        held.add(member)
        return True

    def end_lease(self, owner: str, member: str) -> None:
        """Gives a place back."""
        held = self._leases.get(owner)
        if held is not None:
            held.discard(member)
            if not held:
                del self._leases[owner]

    async def reserve(
        self,
        owner: str,
        member: str,
        amount: int,
        windows: Sequence[Window],
        known: Mapping[str, int],
    ) -> Reserved | Full | Unknown:
        """Reserves an amount in all windows or in none."""
        now = self._clock()
        self._sweep(now)
        for window in windows:
            place = (owner, window.key)
            if place not in self._books and (window.ends_at is None or window.key in known):
                self._books[place] = _Book(window.ends_at, known.get(window.key, 0))
        unknown = [n for n, w in enumerate(windows) if (owner, w.key) not in self._books]
        if unknown:
            return Unknown(unknown)
        books = [self._books[owner, window.key] for window in windows]
        for place, (window, book) in enumerate(zip(windows, books, strict=True)):
            book.expire(now)
            excess = book.used + book.sum + amount - window.limit
            if excess > 0:
                return Full(place, book.level(now), book.wait_s(excess, now))
        for book in books:
            book.put(member, now + MINUTE_S, amount)
        return Reserved([book.level(now) for book in books])

    def settle(self, owner: str, member: str, amount: int, windows: Sequence[Window]) -> None:
        """Puts what was used in the place of what was reserved."""
        for window in windows:
            book = self._books.get((owner, window.key))
            if book is not None:
                book.settle(member, amount)

    async def close(self) -> None:
        """Nothing to let go."""

    def _sweep(self, now: float) -> None:
        """Drops the windows that are over."""
        if now - self._swept < _SWEEP_S:
            return
        self._swept = now
        for place, book in list(self._books.items()):
            book.expire(now)
            over = book.ends_at is None or book.ends_at <= now
            if over and not book.open:
                del self._books[place]

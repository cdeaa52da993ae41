"""Counts limits in Redis, for all processes together."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from limits.aio.storage import RedisStorage
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError

from policy import limits_lua as lua
from policy.limits_port import Full, Level, Reserved, StoreAwayError, Unknown, Window

_logger = logging.getLogger(__name__)

_PREFIX = "penstock:limits"
_LEASE_S = 30.0
_MOST_CONNECTIONS = 32
_BATCH = 256
_PAUSE_S = 0.5

AWAY = (RedisError, OSError, TimeoutError)
"""What is raised while Redis is away."""


@dataclass(slots=True)
class _Order:
    """A script to run."""

    script: str
    keys: Sequence[str]
    values: list[str | int | float]
    answer: "asyncio.Future[Any] | None" = None
    """Who waits for the reply."""
    lasting: bool = False
    """Is sent again until it was received."""
    first_at: int | None = None
    """Place among the values of what tells whether it is sent for the first time."""

    def sent(self) -> None:
        if self.first_at is not None:
            self.values[self.first_at] = 0


@dataclass(slots=True)
class _Held:
    """What counts only as long as it is renewed: by keys, the members."""

    members: dict[tuple[str, ...], set[str]] = field(
        default_factory=dict[tuple[str, ...], set[str]]
    )

    def add(self, keys: tuple[str, ...], member: str) -> None:
        self.members.setdefault(keys, set()).add(member)

    def discard(self, keys: tuple[str, ...], member: str) -> None:
        found = self.members.get(keys)
        if found is not None:
            found.discard(member)
            if not found:
                del self.members[keys]


def storage(url: str, timeout_s: float) -> RedisStorage:
    """Makes the library's storage. Waits, also for a free connection, are bounded."""
    made: Any = BlockingConnectionPool  # whose types say little
    pool = made.from_url(
        url,
        max_connections=_MOST_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    options = cast("Any", {"connection_pool": pool})
    # The library wants an address of its own spelling, and takes the pool's all the same.
    return RedisStorage("redis://", implementation="redispy", key_prefix=_PREFIX, **options)


class RedisCounters:
    """Counts what runs and what is reserved in Redis.

    What is asked for goes over one connection in the order of asking, many in one message: so a
    place that was given back is free for whoever asks next. What is held is renewed while this
    process lives.
    """

    def __init__(
        self, storage: RedisStorage, timeout_s: float, *, lease_s: float = _LEASE_S
    ) -> None:
        bridge: Any = storage.bridge
        self._client: Any = bridge.get_connection()
        self._timeout_s = timeout_s
        self._lease_s = lease_s
        self._queue: deque[_Order] = deque()
        self._wake = asyncio.Event()
        self._held = _Held()
        self._away = False
        self._resting = False
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def lease(self, owner: str, member: str, limit: int) -> bool:
        """Takes one of `limit` places."""
        keys = (_key(owner, "running"),)
        order = _Order(lua.LEASE, keys, [member, limit, self._lease_ms])
        granted = bool(await self._ask(order, _Order(lua.END_LEASE, keys, [member])))
        if granted:
            self._held.add(keys, member)
        return granted

    def end_lease(self, owner: str, member: str) -> None:
        """Gives a place back."""
        keys = (_key(owner, "running"),)
        self._held.discard(keys, member)
        self._put(_Order(lua.END_LEASE, keys, [member], lasting=True))

    async def reserve(
        self,
        owner: str,
        member: str,
        amount: int,
        windows: Sequence[Window],
        known: Mapping[str, int],
    ) -> Reserved | Full | Unknown:
        """Reserves an amount in all windows or in none."""
        values: list[str | int | float] = [member, amount, self._lease_ms]
        for window in windows:
            values += [window.limit, _ms(window.ends_at), known.get(window.key, "")]
        order = _Order(lua.RESERVE, [k for w in windows for k in _keys(owner, w)], values)
        undoing = _settlement(owner, member, 0, windows)
        code, *rest = cast("list[int]", await self._ask(order, undoing))
        if code == 2:
            return Unknown(rest)
        if code == 0:
            place, used, reset_ms, wait_ms = rest
            return Full(place, Level(used, reset_ms / 1000), wait_ms / 1000)
        for window in windows:
            if window.ends_at is not None:
                self._held.add(_keys(owner, window)[:2], member)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return Reserved([Level(used, reset_ms / 1000) for used, reset_ms in pairs])

    def settle(self, owner: str, member: str, amount: int, windows: Sequence[Window]) -> None:
        """Puts what was used in the place of what was reserved."""
        for window in windows:
            if window.ends_at is not None:
                self._held.discard(_keys(owner, window)[:2], member)
        order = _settlement(owner, member, amount, windows)
        order.lasting = True
        self._put(order)

    async def close(self) -> None:
        """Sends what is left, as far as Redis is there, and closes the connection."""
        self._closing = True
        self._wake.set()
        if self._tasks:
            # Not cancelled while it sends: the client may take a cancellation for its own.
            pump, renewal = self._tasks
            renewal.cancel()
            await asyncio.gather(pump, renewal, return_exceptions=True)
        await self._client.connection_pool.disconnect()

    @property
    def _lease_ms(self) -> int:
        return round(self._lease_s * 1000)

    async def _ask(self, order: _Order, undoing: _Order) -> Any:
        """Returns the reply. Without one, the order is undone: it may have been received."""
        if self._resting:
            raise StoreAwayError
        order.answer = asyncio.get_running_loop().create_future()
        self._put(order)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await order.answer
        except TimeoutError:
            self._put(undoing)
            raise StoreAwayError from None
        except BaseException:
            self._put(undoing)
            raise

    def _put(self, order: _Order) -> None:
        self._queue.append(order)
        self._wake.set()
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._pump(), name="limits"),
                loop.create_task(self._renew(), name="limits-renewal"),
            ]

    async def _pump(self) -> None:
        while self._queue or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                orders = self._taken()
                try:
                    await self._send(orders)
                except AWAY as error:
                    self._lost(orders, error)
                    if self._closing:
                        return
                    self._resting = True  # nobody waits for what was away a moment ago
                    await asyncio.sleep(_PAUSE_S)
                    self._resting = False

    def _taken(self) -> list[_Order]:
        return [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))]

    async def _send(self, orders: Sequence[_Order]) -> None:
        """Sends orders in one message, and once more where the connection was gone."""
        try:
            replies = await self._exchange(orders)
        except LostConnection:
            replies = await self._exchange(orders)
        if self._away:
            self._away = False
            _logger.warning("Redis is back: limits are checked again.")
        for order, reply in zip(orders, replies, strict=True):
            if isinstance(reply, Exception):
                _logger.error("Redis refused to count a limit: %s", reply)
            if order.answer is not None and not order.answer.done():
                if isinstance(reply, Exception):
                    order.answer.set_exception(StoreAwayError())
                else:
                    order.answer.set_result(reply)

    async def _exchange(self, orders: Sequence[_Order]) -> list[Any]:
        async with asyncio.timeout(self._timeout_s):
            pool = self._client.connection_pool
            # Connected apart from sending: what could not be sent was not received either.
            await pool.release(await pool.get_connection())
            async with self._client.pipeline(transaction=False) as pipe:
                for order in orders:
                    pipe.eval(order.script, len(order.keys), *order.keys, *order.values)
                    order.sent()
                return await pipe.execute(raise_on_error=False)

    def _lost(self, orders: Sequence[_Order], error: Exception) -> None:
        if not self._away:
            self._away = True
            _logger.error("Redis is away, limits can't be checked: %s", error or type(error))
        waiting = [*orders, *self._queue]
        self._queue = deque(order for order in waiting if order.lasting)
        for order in waiting:
            if order.answer is not None and not order.answer.done():
                order.answer.set_exception(StoreAwayError())
        if self._queue:
            self._wake.set()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for keys, members in self._held.members.items():
                self._put(_Order(lua.RENEW, keys, [self._lease_ms, *members]))


def _key(owner: str, name: str) -> str:
    # Braces keep the keys of an owner on one node of a cluster.
    return f"{_PREFIX}:{{{owner}}}:{name}"


def _keys(owner: str, window: Window) -> tuple[str, str, str]:
    key = _key(owner, window.key)
    return key, f"{key}:amounts", f"{key}:used"


def _settlement(owner: str, member: str, amount: int, windows: Sequence[Window]) -> _Order:
    keys = [key for window in windows for key in _keys(owner, window)]
    ends = [_ms(window.ends_at) for window in windows]
    return _Order(lua.SETTLE, keys, [member, amount, 1, *ends], first_at=2)


def _ms(time_s: float | None) -> int:
    return 0 if time_s is None else round(time_s * 1000)

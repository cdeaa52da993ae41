"""The turns of an engine whose model runs in another process: callers and that process change the
queue, and soon after the engine looks once at what has come of it."""

import asyncio
import time
from collections.abc import Callable

from services.errors import UnsupportedParameter
from services.inference.engine import GroupRequest, Sink
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.guides import check_forms
from services.inference.engines.handle import deliver
from services.inference.engines.sequences import GroupState


class QueueTurns:
    """Of one queue. Must be made on the event loop that uses it."""

    def __init__(self, queue: AdmissionQueue, turn: Callable[[], None]) -> None:
        """Takes what happens in a turn; it ends with `finish`."""
        self._queue = queue
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._turning: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def submit(self, group: GroupRequest, sink: Sink, *, shares_prefixes: bool) -> GroupState:
        """Queues a group.

        Raises:
            DomainError: as `Engine.submit`; or the group shall reuse nothing, and can't be kept
                from that.
        """
        if shares_prefixes and not group.reuse:
            raise UnsupportedParameter(
                "'cache_hint.reuse' can't be switched off for one request: this model's engine "
                "shares attention state between all of them.",
                field="cache_hint.reuse",
            )
        check_forms(group, None)
        now = time.monotonic()
        deadline = None if group.deadline is None else now + group.deadline - self._loop.time()
        state = self._queue.submit(group, sink, deadline=deadline, now=now)
        self.soon()
        return state

    def change(self, command: Callable[[AdmissionQueue], None]) -> None:
        """Applies a change to the queue, and has it take effect."""
        command(self._queue)
        self.soon()

    def soon(self) -> None:
        """Has a turn come."""
        if self._turning is None and not self._stopped:
            self._turning = self._loop.call_soon(self._run)

    def finish(self) -> None:
        """Tells callers what came, and has the next turn come when the earliest deadline does."""
        for group in deliver(self._queue.take_events()):
            self.change(lambda queue, group=group: queue.cancel(group))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._queue.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self.soon)

    def stop(self) -> None:
        """Has no more turns come."""
        self._stopped = True
        for one in (self._turning, self._timer):
            if one is not None:
                one.cancel()

    def _run(self) -> None:
        self._turning = None
        self._turn()

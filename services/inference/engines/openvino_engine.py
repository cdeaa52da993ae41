"""Runs a causal language model on processors with OpenVINO GenAI's continuous batching.

The pipeline lives in a process of its own (`openvino_worker` says why). Everything here happens on
the event loop: callers change the queue, the worker's messages bring tokens, and after either the
engine takes a turn, in which it tells the worker what changed and callers what came.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from itertools import count

from services.errors import Unavailable
from services.inference.engine import (
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    Sink,
)
from services.inference.engines.adapters import WithoutAdapters
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.guides import without_guides
from services.inference.engines.handle import deliver
from services.inference.engines.openvino_link import WorkerLink
from services.inference.engines.openvino_messages import (
    Add,
    Broken,
    Drop,
    FromWorker,
    Gained,
    Hold,
    Ready,
    Stepped,
)
from services.inference.engines.queue_handle import QueuedGroup
from services.inference.engines.queue_turns import QueueTurns
from services.inference.engines.sequences import GroupState, SequenceState

_log = logging.getLogger(__name__)

_FIRST_PROBE = 2**62
"""Keys from here on are probes, not sequences of the queue."""
_SEEDS = 2**32
"""OpenVINO's generators take seeds below this."""


class OpenVinoEngine(WithoutAdapters):
    """Steps a model. Must be made on the event loop that uses it."""

    def __init__(
        self,
        info: EngineInfo,
        queue: AdmissionQueue,
        link: WorkerLink[FromWorker],
        *,
        eos: frozenset[int],
        prefix_caching: bool,
    ) -> None:
        self._info = info
        self._queue = queue
        self._link = link
        self._eos = eos
        self._prefix_caching = prefix_caching
        self._loop = asyncio.get_running_loop()
        self._turns = QueueTurns(queue, self._turn)
        self._probes: dict[int, asyncio.Future[None]] = {}
        self._probe_keys = count(_FIRST_PROBE)
        self._closing = False
        self._dead = False
        self._listener = self._loop.create_task(self._listen(), name="openvino-engine")

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        self._check_alive()
        state = self._turns.submit(group, sink, shares_prefixes=self._prefix_caching)
        return QueuedGroup(state, self)

    async def compile(self, grammar: Grammar) -> object:
        """Refuses: forms are not passed on to OpenVINO."""
        raise without_guides(grammar)

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        return self._queue.status(time.monotonic())

    async def probe(self) -> None:
        """Runs one real forward pass."""
        self._check_alive()
        key = next(self._probe_keys)
        done: asyncio.Future[None] = self._loop.create_future()
        self._probes[key] = done
        self._link.send(_probe(key))
        try:
            await done
        finally:
            if self._probes.pop(key, None) is not None:
                self._link.send(Drop([key]))

    async def close(self) -> None:
        """Fails what runs with `Unavailable` and ends the worker."""
        self._closing = True
        self._stop("The model is being unloaded: try again.")
        await self._link.close()
        await self._listener
        self._turns.stop()

    # What handles ask for.

    def change(self, command: Callable[[AdmissionQueue], None]) -> None:
        """Applies a change to the queue, and has it take effect."""
        self._turns.change(command)

    def hold(self, group: GroupState, *, held: bool) -> None:
        """Keeps a group's tokens back, or gives them out."""
        queue = self._queue
        keys = queue.pause(group) if held else queue.resume(group, time.monotonic())
        if keys:
            self._link.send(Hold(keys, held))
        self._turns.soon()

    # Turns.

    def _turn(self) -> None:
        changes = self._queue.plan(time.monotonic())
        if changes.dropped:
            self._link.send(Drop(changes.dropped))
        for sequence in changes.added:
            self._link.send(_add(sequence, self._eos))
            if sequence.group.paused:
                self._link.send(Hold([sequence.key], held=True))
        self._turns.finish()

    async def _listen(self) -> None:
        try:
            while (message := await self._link.receive()) is not None:
                match message:
                    case Stepped(gained):
                        self._take(gained)
                    case Broken(why):
                        _log.error("a step of OpenVINO failed: %s", why)
                        self._lose(RuntimeError(f"a step of OpenVINO failed: {why}"))
                    case Ready():
                        pass
                self._turn()
        except Exception:
            _log.exception("the engine ends after an error outside of a step")
        if not self._closing:
            _log.error("the process of an OpenVINO engine has ended")
        self._dead = True
        self._stop("The engine has stopped after an error: load the model again.")

    def _take(self, gained: list[Gained]) -> None:
        now = time.monotonic()
        for one in gained:
            if one.key >= _FIRST_PROBE:
                self._answer(one)
                continue
            self._queue.accept(one.key, one.tokens, one.logprobs, now)
            if one.why:
                _log.error("OpenVINO gave up a sequence: %s", one.why)
                self._queue.lost(one.key, RuntimeError(f"OpenVINO gave up a sequence: {one.why}"))

    def _answer(self, gained: Gained) -> None:
        probe = self._probes.pop(gained.key, None)
        if probe is None or probe.done():
            return
        if gained.tokens:
            probe.set_result(None)
        else:
            probe.set_exception(Unavailable(f"The model does not answer: {gained.why}"))

    def _lose(self, error: Exception) -> None:
        self._queue.fail_running(error)
        for probe in self._probes.values():
            if not probe.done():
                probe.set_exception(error)

    def _stop(self, why: str) -> None:
        error = Unavailable(why, retry_after_s=1.0)
        self._queue.close(error)
        deliver(self._queue.take_events())
        for probe in self._probes.values():
            if not probe.done():
                probe.set_exception(error)

    def _check_alive(self) -> None:
        if self._closing:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        if self._dead:
            raise Unavailable("The engine has stopped after an error: load the model again.")


def _add(sequence: SequenceState, eos: frozenset[int]) -> Add:
    params = sequence.params
    seed = params.seed % _SEEDS**2  # as 64 bits without a sign
    ends = params.stop_token_ids if params.ignore_eos else params.stop_token_ids | eos
    return Add(
        key=sequence.key,
        prompt=list(sequence.request.prompt),
        max_tokens=max(1, sequence.limit),
        min_tokens=params.min_tokens,
        stops=tuple(sorted(ends)),
        seed=(seed ^ seed // _SEEDS) % _SEEDS,
        greedy=params.greedy,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        scored=params.logprobs is not None,
    )


def _probe(key: int) -> Add:
    return Add(key, [0], 1)

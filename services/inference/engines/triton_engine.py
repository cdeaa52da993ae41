"""Runs text models on Triton Inference Server.

Which sequences run is decided here, as on the other engines: order, limits and deadlines are the
same. Each that runs is one stream to Triton, and what ends it here cancels it there.
"""

import asyncio
import contextvars
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

from services.errors import DomainError, FailedPrecondition, Unavailable
from services.inference.engine import (
    EndReason,
    Engine,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    Priority,
    SamplingParams,
    Sink,
)
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.guides import without_guides
from services.inference.engines.handle import deliver
from services.inference.engines.queue_handle import QueuedGroup
from services.inference.engines.queue_turns import QueueTurns
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from services.inference.engines.triton_adapter import TritonAdapter
from services.inference.engines.triton_contract import Contract
from services.tritonserver.calls import CallOptions
from services.tritonserver.hosted import HostedModel
from services.tritonserver.tensors import Tensor

_log = logging.getLogger(__name__)
_PRIORITIES = {Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 3}
_AFFINE_TOKENS = 64
"""Beginning of a prompt by which its endpoint is chosen: requests of one application share it."""
PROBE_S = 60.0
"""How long a trial request may take."""
ONE_TOKEN = SamplingParams(max_tokens=1, seed=0, temperature=0.0)
"""How trial requests are sampled."""


class TritonEngine:
    """A model on Triton. Must be made on the event loop that uses it."""

    def __init__(
        self,
        info: EngineInfo,
        queue: AdmissionQueue,
        hosted: HostedModel,
        contract: Contract,
        trial: Sequence[Tensor],
    ) -> None:
        """Takes what it consists of; `trial` is a prompt for probes."""
        self._trial = trial
        self._info = info
        self._queue = queue
        self._hosted = hosted
        self._contract = contract
        self._loop = asyncio.get_running_loop()
        self._turns = QueueTurns(queue, self._turn)
        self._streams: dict[int, asyncio.Task[None]] = {}
        self._going: dict[GroupState, asyncio.Event] = {}
        """Set while a group is not paused."""
        self._options: dict[GroupState, CallOptions] = {}
        self._closing = False
        self._ended: set[int] = set()
        """Sequences that ended by their tokens, by their keys."""
        self._ending: set[asyncio.Task[None]] = set()
        """Streams of those: they end by themselves, too."""
        self._prompts: dict[int, list[Tensor]] = {}
        """Of sequences that wait, by their keys."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        if self._closing:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        shares = self._contract.shares_prefixes
        state = self._turns.submit(group, sink, shares_prefixes=shares)
        try:
            prompts = [self._contract.prompt(one.prompt) for one in group.sequences]
        except Exception:
            self._queue.cancel(state)
            raise
        for sequence, prompt in zip(state.sequences, prompts, strict=True):
            self._prompts[sequence.key] = prompt
        self._options[state] = CallOptions(
            request_id=group.request_id,
            deadline=group.deadline,
            priority=_PRIORITIES[group.priority],
        ).of_this_call()
        self._going[state] = asyncio.Event()
        self._going[state].set()
        return QueuedGroup(state, self)

    async def compile(self, grammar: Grammar) -> object:
        """Refuses: forms are not passed on to Triton."""
        raise without_guides(grammar)

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        return self._queue.status(time.monotonic())

    def status_of(self, adapter: str) -> EngineStatus:
        """Counts of an adapter."""
        return self._queue.status(time.monotonic(), adapter=adapter)

    async def probe(self) -> None:
        """Runs one real forward pass."""
        await self._hosted.probe()

    async def lost(self) -> DomainError:
        """Waits until no Triton has the model any more; returns why."""
        return await self._hosted.lost()

    @property
    def addresses(self) -> list[str]:
        """Where the model is ready."""
        return self._hosted.addresses

    async def attach(self, name: str, folder: Path) -> Engine:
        """Serves an adapter that the model in Triton has under this name."""
        if not self._info.capabilities.lora:
            raise FailedPrecondition(
                "The model in Triton has no LoRA adapters: list them in its multi_lora.json and "
                "set enable_lora in its model.json, or deploy the adapter merged into its weights."
            )
        return TritonAdapter(name, self._info, self)

    async def try_once(self, adapter: str) -> None:
        """Has the model answer one token with an adapter. Raises `DomainError`."""
        inputs = [*self._trial, *self._contract.sampling(ONE_TOKEN, 1, adapter)]
        options = CallOptions(deadline=self._loop.time() + PROBE_S)
        answers = self._hosted.stream(inputs, options=options, model=self._contract.model)
        async with aclosing(answers):
            async for _ in answers:
                pass

    async def close(self) -> None:
        """Fails what runs with `Unavailable` and leaves the model."""
        if self._closing:
            return
        self._closing = True
        self._queue.close(Unavailable("The model is being unloaded: try again.", retry_after_s=1.0))
        deliver(self._queue.take_events())
        self._turns.stop()
        streams = [*self._streams.values(), *self._ending]
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await self._hosted.close()

    # What handles ask for.

    def change(self, command: Callable[[AdmissionQueue], None]) -> None:
        """Applies a change to the queue, and has it take effect."""
        self._turns.change(command)

    def hold(self, group: GroupState, *, held: bool) -> None:
        """Stops reading a group's streams, or goes on: Triton waits while nobody reads."""
        going = self._going.get(group)
        if held:
            self._queue.pause(group)
            if going is not None:
                going.clear()
        else:
            self._queue.resume(group, time.monotonic())
            if going is not None:
                going.set()
        self._turns.soon()

    # Turns.

    def _turn(self) -> None:
        changes = self._queue.plan(time.monotonic())
        for sequence in changes.added:
            # In a context of its own: what is current here belongs to whoever came last.
            self._streams[sequence.key] = self._loop.create_task(
                self._stream(sequence), context=contextvars.Context()
            )
        for key in changes.dropped:
            stream = self._streams.pop(key)
            if key in self._ended:  # by itself: Triton's side ends, too
                self._ended.discard(key)
                self._ending.add(stream)
                stream.add_done_callback(self._ending.discard)
            else:
                stream.cancel()
        for group in [group for group in self._options if group.over]:
            del self._options[group], self._going[group]
            for sequence in group.sequences:
                self._prompts.pop(sequence.key, None)
        self._turns.finish()

    async def _stream(self, sequence: SequenceState) -> None:
        """Generates one sequence."""
        group, going = sequence.group, self._going[sequence.group]
        try:
            await self._read(sequence, going)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if _over(sequence):
                return  # the others of its group go on
            if not isinstance(error, DomainError):
                _log.exception("a stream from Triton failed")
            self._queue.fail([group], error)
        self._turns.soon()

    async def _read(self, sequence: SequenceState, going: asyncio.Event) -> None:
        contract, params = self._contract, sequence.params
        adapter = sequence.group.request.adapter
        prompt = self._prompts.pop(sequence.key)
        inputs = [*prompt, *contract.sampling(params, sequence.limit, adapter)]
        options = self._options[sequence.group].with_affinity(_affinity(sequence, adapter))
        end: EndReason | None = None
        async with aclosing(
            self._hosted.stream(inputs, options=options, model=contract.model)
        ) as answers:
            async for answer in answers:
                step = contract.read(answer, params)
                end = step.end or end
                await going.wait()
                if _over(sequence):
                    continue  # Triton's side is about to end, too
                now = time.monotonic()
                self._queue.accept_scored(sequence.key, step.tokens, step.scores, now)
                if _over(sequence):
                    self._ended.add(sequence.key)
                self._turns.soon()
        self._queue.end(sequence.key, end or EndReason.EOS, time.monotonic())


def _over(sequence: SequenceState) -> bool:
    return sequence.stage is Stage.OVER


def _affinity(sequence: SequenceState, adapter: str) -> bytes:
    head = ",".join(map(str, sequence.request.prompt[:_AFFINE_TOKENS]))
    return hashlib.blake2b(f"{adapter}\0{head}".encode(), digest_size=8).digest()

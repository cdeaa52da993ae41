"""Runs a causal language model in this process, with continuous batching.

One thread owns the device. It computes a step, hands the step's events to the event loop with one
`call_soon_threadsafe`, and goes on to the next. The event loop never waits for a step: the lock
that both share is held for bookkeeping only.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from services.errors import Unavailable
from services.inference.engine import (
    Engine,
    EngineInfo,
    EngineStatus,
    Grammar,
    GroupHandle,
    GroupRequest,
    Sink,
)
from services.inference.engines.adapters import AdapterLimits, AdapterRoll, without_adapters
from services.inference.engines.chores import Chore
from services.inference.engines.decoder_adapters import ReadAdapter
from services.inference.engines.grammar_compiler import GrammarCompiler
from services.inference.engines.grammar_masks import CompiledGrammar
from services.inference.engines.guides import check_forms, without_guides
from services.inference.engines.handle import Command, Handover, ScheduledGroup, deliver
from services.inference.engines.scheduler import Scheduler, unloaded
from services.inference.engines.steps import Batch, Step
from services.inference.engines.torch_adapter import Bench, TorchAdapter, adapted_info, check_room
from services.inference.engines.torch_runner import SpanResult, TorchRunner
from services.weights.memory import free_bytes

_log = logging.getLogger(__name__)

Outcome = list[SpanResult] | Exception
"""What became of one batch."""


class TorchEngine:
    """Steps a model. Must be made on the event loop that uses it."""

    def __init__(
        self,
        info: EngineInfo,
        runner: TorchRunner,
        scheduler: Scheduler,
        grammars: GrammarCompiler | None = None,
        adapters: AdapterLimits | None = None,
    ) -> None:
        """Takes what it runs; without `grammars` there is no guided decoding."""
        self._grammars = grammars
        self._adapter_limits = adapters or AdapterLimits()
        self._adapters = AdapterRoll(self._adapter_limits)
        self._info = info
        self._runner = runner
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()  # guards the scheduler and what follows
        self._chores: deque[Chore] = deque()
        self._closing = False
        self._dead = False
        self._thread = threading.Thread(target=self._own_device, name="torch-engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        return self._info

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group."""
        check_forms(group, CompiledGrammar)
        now = time.monotonic()
        deadline = None if group.deadline is None else now + group.deadline - self._loop.time()
        with self._wake:
            self._check_alive()
            if group.adapter and group.adapter not in self._adapters:
                raise unloaded()
            state = self._scheduler.submit(group, sink, deadline=deadline, now=now)
            self._wake.notify()
        return ScheduledGroup(state, self._apply)

    async def compile(self, grammar: Grammar) -> object:
        """Makes a form ready for its sequences."""
        with self._wake:
            self._check_alive()
        if self._grammars is None:
            raise without_guides(grammar)
        return await self._grammars.compile(grammar)

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        return self._status("")

    async def probe(self) -> None:
        """Runs one real forward pass between two steps."""
        await self._between_steps(self._runner.probe)

    async def attach(self, name: str, folder: Path) -> Engine:
        """Loads an adapter beside the model: reads it while steps go on."""
        with self._wake:
            self._check_alive()
        if not self._info.capabilities.lora:
            raise without_adapters(self._info)
        key = self._adapters.enter(name)
        try:
            adapter = await asyncio.to_thread(self._read_adapter, folder)
            await self._between_steps(partial(self._runner.put_adapter, key, adapter))
        except BaseException:
            await self._detach(key)
            raise
        bench = Bench(
            submit=self.submit,
            compile=self.compile,
            status=partial(self._status, key),
            probe=partial(self._between_steps, partial(self._runner.probe, key)),
            detach=partial(self._detach, key),
        )
        return TorchAdapter(key, adapted_info(self._info, adapter), bench)

    async def close(self) -> None:
        """Fails what runs with `Unavailable`, frees the device and ends its thread."""
        with self._wake:
            self._closing = True
            self._scheduler.close()
            events = self._scheduler.take_events()
            self._wake.notify()
        deliver(events)
        await asyncio.to_thread(self._thread.join)
        self._runner.release()
        if self._grammars is not None:
            self._grammars.close()

    def _read_adapter(self, folder: Path) -> ReadAdapter:
        check_room(folder, free_bytes(self._runner.device))
        adapter = self._runner.read_adapter(folder)
        self._adapter_limits.check_rank(adapter.rank)
        return adapter

    async def _detach(self, key: str) -> None:
        """Fails what runs with an adapter, and forgets it."""
        self._adapters.strike(key)
        with self._wake:
            if self._closing or self._dead:
                return
            self._scheduler.detach(key)
        with contextlib.suppress(Unavailable):  # the engine ends meanwhile, and all with it
            await self._between_steps(partial(self._runner.drop_adapter, key))

    def _status(self, adapter: str) -> EngineStatus:
        with self._wake:
            return self._scheduler.status(time.monotonic(), adapter)

    async def _between_steps(self, work: Callable[[], None]) -> None:
        """Has the device's thread do something; raises what that raises."""
        done: asyncio.Future[None] = self._loop.create_future()
        with self._wake:
            self._check_alive()
            self._chores.append(Chore(work, done))
            self._wake.notify()
        await done

    def _check_alive(self) -> None:
        if self._closing:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
        if self._dead:
            raise Unavailable("The engine has stopped after an error: load the model again.")

    def _apply(self, command: Command) -> None:
        with self._wake:
            command(self._scheduler)
            self._wake.notify()

    # On the device's thread.

    def _own_device(self) -> None:
        try:
            while (step := self._next_step()) is not None:
                self._hand_over(self._perform(step))
        except Exception:
            _log.exception("the engine's thread ends after an error outside of a forward pass")
            with self._wake:
                self._dead = True
                self._scheduler.close()
                events = self._scheduler.take_events()
            self._hand_over(events)
        while self._chores:
            self._answer(self._chores.popleft(), Unavailable("The engine has stopped."))

    def _next_step(self) -> Step | None:
        """Waits until there is something to do; None ends the thread."""
        with self._wake:
            while not (self._closing or self._chores or self._scheduler.due(time.monotonic())):
                self._wait()
            if self._closing:
                return None
            chores, self._chores = self._chores, deque()
            step = self._scheduler.plan(time.monotonic())
            admissions = self._scheduler.take_events()
        self._hand_over(admissions)  # callers hear of their admission before the prompt is read
        for chore in chores:
            self._answer(chore, chore.perform())
        return step

    def _wait(self) -> None:
        deadline = self._scheduler.next_deadline()
        self._wake.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def _perform(self, step: Step) -> Handover:
        """Does what a step says; returns the events that came of it."""
        self._runner.retain(step.resident)
        try:
            self._runner.carry_out(step.operations)
        except Exception as error:
            _log.exception("the attention memory could not be changed")
            with self._wake:
                self._scheduler.memory_lost(error)
                return self._scheduler.take_events()
        return self._settle(step, [self._compute(batch) for batch in step.batches])

    def _compute(self, batch: Batch) -> Outcome:
        try:
            return self._runner.run(batch)
        except Exception as error:
            _log.exception(
                "a forward pass failed",
                extra={"phase": batch.phase.value, "sequences": len(batch.spans)},
            )
            return error

    def _settle(self, step: Step, outcomes: list[Outcome]) -> Handover:
        """Tells the scheduler what became of a step."""
        with self._wake:
            now = time.monotonic()
            for batch, outcome in zip(step.batches, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    self._scheduler.fail({s.sequence.group for s in batch.spans}, outcome)
                    continue
                for result in outcome:
                    sequence = result.span.sequence
                    self._scheduler.score(sequence, result.scores)
                    self._scheduler.advance(result.span, now, max(0, len(result.choices) - 1))
                    for choice in result.choices:
                        if choice.error is not None:
                            self._scheduler.fail((sequence.group,), choice.error)
                            break
                        self._scheduler.accept(sequence, choice.token_id, choice.score, now)
            return self._scheduler.take_events()

    def _hand_over(self, events: Handover) -> None:
        if events:
            self._call_loop(lambda: self._deliver(events))

    def _answer(self, chore: Chore, error: Exception | None) -> None:
        self._call_loop(lambda: chore.answer(error))

    def _call_loop(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            with self._wake:
                self._closing = True

    # On the event loop.

    def _deliver(self, events: Handover) -> None:
        for group in deliver(events):
            self._apply(lambda scheduler, group=group: scheduler.cancel(group))

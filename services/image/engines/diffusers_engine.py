"""Draws with a pipeline of diffusers in this process, on one thread that owns the device."""

import copy
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from services.errors import FailedPrecondition
from services.image.engine import Drawing, Drawn, ImageModelInfo, Plan, PromptLength, Watch
from services.image.engines.device_thread import DeviceThread, Leaving, Presence
from services.image.engines.diffusers_drawing import GivenUp, Run
from services.image.engines.diffusers_machine import Machine
from services.image.engines.diffusers_memory import memory_bytes
from services.image.engines.diffusers_refusals import refusal
from services.image.engines.diffusers_text import pieces_of
from services.weights.memory import free_bytes

_log = logging.getLogger(__name__)
_PROBE_SIDE = 64

T = TypeVar("T")


class DiffusersModel:
    """A pipeline on its thread. Must be used on one event loop."""

    def __init__(self, info: ImageModelInfo, machine: Machine, device: DeviceThread) -> None:
        self._info = info
        self._machine: Machine | None = machine
        self._device = device
        # A copy, because the thread uses the pipeline's.
        self._tokenizer: Any = copy.deepcopy(machine.pipelines.reader[0])
        self._counting = threading.Lock()

    @property
    def info(self) -> ImageModelInfo:
        """What it is."""
        return self._info

    def refusal(self, plan: Plan) -> tuple[str, str] | None:
        """Why a plan can't be drawn."""
        return None if self._machine is None else refusal(plan, self._info, self._machine.solvers)

    def memory_bytes(self, plan: Plan, count: int) -> int:
        """About what a batch takes."""
        return 0 if self._machine is None else memory_bytes(plan, count, self._machine.shapes())

    def free_memory_bytes(self) -> int:
        """Free memory of the device, with what its allocator keeps for the next drawings."""
        if self._machine is None:
            return 0
        device = self._machine.device
        kept = 0
        if device.type == "cuda":
            kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free_bytes(device) + kept

    def measure(self, text: str, *, weighs_words: bool = False) -> PromptLength:
        """How long a prompt is."""
        with self._counting:
            if self._info.max_prompt_pieces > 1:
                pieces = pieces_of(self._tokenizer, text, weighs=weighs_words)
                return PromptLength(sum(map(len, pieces)), len(pieces))
            found = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return PromptLength(len(found))

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        """Draws a batch."""
        try:
            return await self._device.run(
                lambda presence: self._draw(plan, drawings, watch, presence)
            )
        except (Leaving, GivenUp):
            return None

    async def on_thread(self, work: Callable[[Machine], T]) -> T:
        """Runs other work on the engine's thread, when its turn has come."""

        def perform(_presence: Presence) -> T:
            assert self._machine is not None
            return work(self._machine)

        return await self._device.run(perform)

    async def probe(self) -> None:
        """Draws one real step."""
        side = max(_PROBE_SIDE, self._info.size_multiple)
        plan = Plan(side, side, 1, 7.0, self._info.default_sampler, "automatic")
        await self.draw(plan, [Drawing("probe", "", 0)], lambda _stage, _look: True)

    async def close(self) -> None:
        """Fails what runs and waits, ends the thread and frees the model."""
        await self._device.close()
        cuda = self._machine is not None and self._machine.device.type == "cuda"
        self._machine = None
        if cuda:
            torch.cuda.empty_cache()

    # On the thread.

    def _draw(
        self, plan: Plan, drawings: Sequence[Drawing], watch: Watch, presence: Presence
    ) -> Drawn:
        machine = self._machine
        assert machine is not None
        try:
            return Run(machine, plan, drawings, watch, presence).draw()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            _log.warning("memory ran out", extra={"images": len(drawings)}, exc_info=True)
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
        width, height = (
            (plan.width, plan.height)
            if plan.hires is None
            else (plan.hires.width, plan.hires.height)
        )
        raise FailedPrecondition(
            f"Memory ran out while drawing {len(drawings)} of {width}×{height} pixels: ask for a "
            f"smaller width and height, or a smaller batch_size."
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "not enough memory" in said
        or "can't allocate memory" in said
    )

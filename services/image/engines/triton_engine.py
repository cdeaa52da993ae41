"""Draws with a model on Triton, which runs the diffusers engine there."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services import errors
from services.errors import DomainError, Internal, Unavailable
from services.image.engine import (
    Drawing,
    Drawn,
    ImageModelInfo,
    Plan,
    PromptLength,
    Stage,
    Watch,
)
from services.image.engines.diffusers_memory import memory_bytes
from services.image.engines.diffusers_refusals import refusal
from services.image.engines.latent_colours import ColourMap, painted
from services.image.engines.triton_wire import (
    EVENT,
    LATENTS,
    ORDER,
    PICTURES,
    Description,
    Op,
    write_drawing_order,
)
from services.tritonserver.calls import CallOptions
from services.tritonserver.closing import Closing
from services.tritonserver.hosted import HostedModel
from services.tritonserver.tensors import Tensor, bytes_tensor, tensor

_ASK_S = 120.0
"""How long an answer may take that takes a moment."""


class TritonImageModel:
    """A pipeline on Triton. Must be used on one event loop."""

    def __init__(self, hosted: HostedModel, description: Description, model: str) -> None:
        self._hosted = hosted
        self._described = description
        own = description.info
        self._info = replace(own, name="triton", build=f"triton_{own.build}", filename=model)
        self._free_bytes = description.free_bytes
        self._closing = Closing()
        self._turn = asyncio.Lock()
        self._watching = ThreadPoolExecutor(1, "triton-image")
        self._loop = asyncio.get_running_loop()

    @property
    def info(self) -> ImageModelInfo:
        """What it is."""
        return self._info

    def refusal(self, plan: Plan) -> tuple[str, str] | None:
        """Why a plan can't be drawn."""
        return refusal(plan, self._info, self._described.solvers)

    def memory_bytes(self, plan: Plan, count: int) -> int:
        """About what a batch takes, there."""
        return memory_bytes(plan, count, self._described.shapes)

    def free_memory_bytes(self) -> int:
        """Free memory of the device, as it was last told."""
        return self._free_bytes

    def measure(self, text: str, *, weighs_words: bool = False) -> PromptLength:
        """How long a prompt is. From any thread but the event loop's."""
        order = {"op": Op.MEASURE.value, "text": text, "weighs_words": weighs_words}
        event, _ = self._asked(order)
        return PromptLength(int(event["tokens"]), int(event["pieces"]))

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        """Draws a batch."""
        self._closing.check()
        return await self._closing.run(self._in_turn(plan, drawings, watch))

    async def probe(self) -> None:
        """Draws one real step."""
        self._closing.check()
        await self._hosted.probe()

    async def lost(self) -> DomainError:
        """Waits until no Triton has it any more, or it is closed; returns why."""
        return await self._hosted.lost()

    async def close(self) -> None:
        """Fails what runs and waits, and has Triton unload it."""
        self._closing.close()
        await asyncio.to_thread(self._watching.shutdown)
        await self._hosted.close()

    async def _in_turn(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        async with self._turn:
            return await self._draw(plan, drawings, watch)

    async def _draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        order, pictures = await asyncio.to_thread(write_drawing_order, plan, drawings)
        inputs = [bytes_tensor(ORDER, [order])]
        if pictures:
            inputs.append(bytes_tensor(PICTURES, pictures))
        loop = asyncio.get_running_loop()
        drawn: Drawn | None = None
        async with aclosing(self._hosted.stream(inputs)) as answers:
            async for answer in answers:  # to its end: leaving it would cancel the request
                event = read_event(answer)
                if event["type"] == "step":
                    self._free_bytes = int(event["free_bytes"])
                    look = _Look(self, _array(answer, LATENTS), self._described.colours)
                    stage = Stage(int(event["step"]), int(event["step_count"]))
                    if not await loop.run_in_executor(self._watching, watch, stage, look):
                        return None
                elif event["type"] == "done":
                    found = [Image.fromarray(one) for one in _array(answer, PICTURES)]
                    drawn = Drawn(found, float(event["denoise_s"]), float(event["decode_s"]))
        if drawn is None:
            raise Unavailable("Triton ended the drawing before it was done: try again.")
        return drawn

    def decode(self, latents: NDArray[Any]) -> Image.Image:
        """The picture of latents. From any thread but the event loop's."""
        given = tensor(LATENTS, "FP32", latents[None])
        _, answer = self._asked({"op": Op.DECODE.value}, given)
        return Image.fromarray(_array(answer, PICTURES)[0])

    def _asked(
        self, order: Mapping[str, Any], latents: Tensor | None = None
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The one answer to a small order. From any thread but the event loop's."""
        work = self._closing.run(ask(self._hosted, order, latents))
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        return asked.result(2 * _ASK_S)  # its own deadline comes first, while the loop runs


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """How a batch looks after a step."""

    model: TritonImageModel
    latents: NDArray[Any]
    """As the drawings will be, as far as can be told."""
    colours: ColourMap

    def preview(self, row: int) -> Image.Image:
        """A cheap picture of one drawing."""
        return painted(self.latents[row], self.colours)

    def picture(self, row: int) -> Image.Image:
        """One drawing, decoded in Triton as it is now."""
        return self.model.decode(self.latents[row])


async def ask(
    hosted: HostedModel, order: Mapping[str, Any], latents: Tensor | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The one answer to an order. Raises `DomainError`."""
    inputs = [bytes_tensor(ORDER, [json.dumps(order)])]
    if latents is not None:
        inputs.append(latents)
    options = CallOptions(deadline=asyncio.get_running_loop().time() + _ASK_S)
    async with aclosing(hosted.stream(inputs, options=options)) as answers:
        found = [answer async for answer in answers]
    if len(found) != 1:
        raise Unavailable("Triton gave no answer: try again.")
    return read_event(found[0]), found[0]


def read_event(answer: Mapping[str, Tensor]) -> dict[str, Any]:
    """The event of an answer.

    Raises:
        DomainError: it tells of a failure.
    """
    told = answer[EVENT].texts() if EVENT in answer else []
    if len(told) != 1:
        raise Internal("Triton's model answers with no event: export it again.")
    event: dict[str, Any] = json.loads(told[0])
    if event.get("type") != "failed":
        return event
    kind = getattr(errors, str(event["reason"]), Internal)
    if not (isinstance(kind, type) and issubclass(kind, DomainError)):
        kind = Internal
    raise kind(
        str(event["message"]),
        field=str(event["field"]) or None,
        retry_after_s=event.get("retry_after_s"),
    )


def _array(answer: Mapping[str, Tensor], name: str) -> NDArray[Any]:
    if name not in answer:
        raise Internal(f"Triton's model gave no {name}: export it again.")
    return np.asarray(answer[name].array())

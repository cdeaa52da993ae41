"""What the model in Triton's python backend does: answers orders with the diffusers engine.

It runs in Triton's process, on a copy of this code that `penstock triton export` puts beside the
model; the engine `triton` is its client.
"""

import asyncio
import json
import queue
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from services.errors import DomainError, Internal, InvalidArgument, QueueFull
from services.image.engine import Look, Stage
from services.image.engines.diffusers_engine import DiffusersModel
from services.image.engines.diffusers_machine import Coding, Machine
from services.image.engines.diffusers_watching import Watching
from services.image.engines.triton_wire import Op, read_drawing_order, write_description

Array = NDArray[Any]
_tensor = cast("Any", torch.from_numpy)  # pyright: ignore[reportUnknownMemberType]


class Answers(Protocol):
    """Takes the answers to one order."""

    def send(
        self, event: dict[str, Any], *, latents: Array | None = None, pictures: Array | None = None
    ) -> None:
        """Sends one answer. From any thread."""
        ...

    def gone(self) -> bool:
        """Whether nobody waits for more. From any thread."""
        ...


class Host:
    """One model and those who draw with it. Made by `open`, on the event loop that uses it."""

    def __init__(self, model: DiffusersModel, machine: Machine, most_waiting: int) -> None:
        self._model = model
        self._machine = machine
        self._most = most_waiting
        self._asked: list[Answers] = []
        """Those who have a drawing run or wait."""
        self._decodes: queue.SimpleQueue[tuple[Array, Future[Array]]] = queue.SimpleQueue()

    @classmethod
    async def open(cls, model: DiffusersModel, *, most_waiting: int) -> "Host":
        """Begins; at most so many drawings wait beside the one that is drawn."""
        return cls(model, await model.on_thread(lambda machine: machine), most_waiting)

    async def answer(
        self, text: str, pictures: Sequence[bytes], latents: Array | None, answers: Answers
    ) -> None:
        """Answers one order. Failures are events of the type `failed`."""
        try:
            order = _read(text)
            match _op(order):
                case Op.DESCRIBE:
                    answers.send(await self._describe())
                case Op.MEASURE:
                    answers.send(self._measure(order))
                case Op.DECODE:
                    picture = await self._decode(latents)
                    answers.send({"type": "picture"}, pictures=picture[None])
                case Op.PROBE:
                    if not self._drawings():  # else there is life in it, and its turn may be far
                        await self._model.probe()
                    answers.send({"type": "alive"})
                case Op.DRAW:
                    await self._draw(order, pictures, answers)
        except DomainError as error:
            answers.send(
                {
                    "type": "failed",
                    "reason": type(error).__name__,
                    "message": error.message,
                    "field": error.field or "",
                    "retry_after_s": error.retry_after_s,
                }
            )

    async def close(self) -> None:
        """Fails what runs and waits, and frees the device."""
        await self._model.close()

    async def _describe(self) -> dict[str, Any]:
        machine = self._machine
        return write_description(
            self._model.info,
            machine.solvers,
            machine.shapes(),
            machine.colours.table,
            self._model.free_memory_bytes(),
        )

    def _measure(self, order: dict[str, Any]) -> dict[str, Any]:
        text, weighs = order.get("text"), order.get("weighs_words", False)
        if not isinstance(text, str) or not isinstance(weighs, bool):
            raise InvalidArgument("`text` has to be a text, `weighs_words` a truth.", field="text")
        length = self._model.measure(text, weighs_words=weighs)
        return {"type": "length", "tokens": length.tokens, "pieces": length.pieces}

    async def _draw(
        self, order: dict[str, Any], pictures: Sequence[bytes], answers: Answers
    ) -> None:
        plan, drawings = read_drawing_order(order, pictures, self._model.info)
        refused = self._model.refusal(plan)
        if refused is not None:
            raise InvalidArgument(refused[1], field=refused[0])
        if (there := self._drawings()) > self._most:
            raise QueueFull(
                f"{there} drawings run and wait here already: try again later.",
                retry_after_s=1.0,
            )

        def watch(stage: Stage, look: Look) -> bool:
            self._serve_decodes(self._machine)
            if answers.gone():
                return False
            told = {"type": "step", "step": stage.step, "step_count": stage.step_count}
            told["free_bytes"] = self._model.free_memory_bytes()
            answers.send(told, latents=_latents(look, len(drawings)))
            return True

        self._asked.append(answers)
        try:
            drawn = await self._model.draw(plan, drawings, watch)
        finally:
            self._asked.remove(answers)
        if drawn is None:
            return
        answers.send(
            {"type": "done", "denoise_s": drawn.denoise_s, "decode_s": drawn.decode_s},
            pictures=np.stack([_pixels(picture) for picture in drawn.pictures]),
        )

    def _drawings(self) -> int:
        """How many run and wait, without those that nobody wants any more."""
        return sum(not answers.gone() for answers in self._asked)

    async def _decode(self, latents: Array | None) -> Array:
        """One drawing, decoded: between two steps of what is drawn, or at once."""
        channels = self._machine.codec.channels
        if latents is None or latents.ndim != 4 or latents.shape[:2] != (1, channels):
            raise InvalidArgument(
                f"`latents` has to be of the shape 1, {channels}, rows, columns.", field="latents"
            )
        found: Future[Array] = Future()
        self._decodes.put((latents, found))
        idle = asyncio.ensure_future(self._model.on_thread(self._serve_decodes))
        try:
            return await asyncio.wrap_future(found)
        finally:
            if not idle.done():
                idle.cancel()
            await asyncio.gather(idle, return_exceptions=True)

    def _serve_decodes(self, machine: Machine) -> None:
        """On the engine's thread."""
        while True:
            try:
                latents, found = self._decodes.get_nowait()
            except queue.Empty:
                return
            if not found.set_running_or_notify_cancel():
                continue
            try:
                with torch.inference_mode():
                    given = _tensor(np.array(latents, np.float32)).to(machine.device)
                    found.set_result(_pixels(Coding(machine).decode(given)))
            except Exception as error:
                found.set_exception(error)


def _read(text: str) -> dict[str, Any]:
    try:
        order = json.loads(text)
    except ValueError:
        order = None
    if not isinstance(order, dict):
        raise InvalidArgument("`order` has to be a JSON object.", field="order")
    return cast("dict[str, Any]", order)


def _op(order: dict[str, Any]) -> Op:
    try:
        return Op(order.get("op"))
    except ValueError:
        known = ", ".join(op.value for op in Op)
        raise InvalidArgument(f"`op` has to be one of {known}.", field="op") from None


def _latents(look: Look, count: int) -> Array:
    """As the drawings will be, as far as can be told: (drawings, channels, rows, columns)."""
    if not isinstance(look, Watching):
        raise Internal("The engine's watch shows no latents.")
    return torch.cat([look.clean(row) for row in range(count)]).float().cpu().numpy()


def _pixels(picture: Image.Image) -> Array:
    return np.asarray(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB"))

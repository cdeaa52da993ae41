"""Runs models of OpenVINO's and ONNX's formats on processors: tensors in, tensors out.

The model lives in a process of its own (`openvino_tensor_worker` says why), which runs one
inference at a time; the others wait here. A process that ends is started anew for the next one.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from itertools import count

import msgspec

from services.errors import DomainError, InvalidArgument, MessageTooLarge, Unavailable
from services.inference.engines.openvino_link import WorkerLink
from services.inference.engines.openvino_messages import Broken
from services.inference.engines.openvino_tensor_messages import (
    Array,
    FromTensorWorker,
    Load,
    Loaded,
    Ran,
    Refused,
    Run,
    Stop,
)
from services.inference.engines.tensor_line import TensorJob, TensorLine
from services.inference.engines.tensor_trials import zeros
from services.inference.tensor_engine import (
    Inferred,
    Tensor,
    TensorEngineInfo,
    TensorStatus,
)

_log = logging.getLogger(__name__)

_STOP_S = 10.0
"""Time that a run gets to end after it was stopped; then its process is ended."""

TensorLink = WorkerLink[FromTensorWorker]


async def open_link(load: Load) -> tuple[TensorLink, Loaded]:
    """Starts a process that has loaded a model.

    Raises:
        FailedPrecondition: it can't load it.
        Unavailable: it ended.
    """
    decoder: msgspec.msgpack.Decoder[FromTensorWorker] = msgspec.msgpack.Decoder(FromTensorWorker)
    link, first = await TensorLink.open("tensors", load, decoder)
    if not isinstance(first, Loaded):
        await link.close()
        raise Unavailable("The engine's process did not load the model.")
    return link, first


class OpenVinoTensors:
    """Runs a model. Must be made on the event loop that uses it."""

    def __init__(
        self, info: TensorEngineInfo, load: Load, link: TensorLink, *, queue_limit: int
    ) -> None:
        self._info = info
        self._load = load
        self._link: TensorLink | None = link
        self._line = TensorLine(queue_limit)
        self._keys = count(1)
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="tensor-engine")

    @property
    def info(self) -> TensorEngineInfo:
        """What it is."""
        return self._info

    async def infer(self, inputs: Sequence[Tensor], *, deadline: float | None = None) -> Inferred:
        """Runs the model once."""
        return await self._line.answer(inputs, deadline)

    def status(self) -> TensorStatus:
        """Counts at this moment."""
        return self._line.status()

    async def probe(self) -> None:
        """Runs the model on zeros. That it may refuse them: their sizes are guessed."""
        with contextlib.suppress(InvalidArgument, MessageTooLarge):
            await self._line.answer(zeros(self._info.inputs), None, counted=False)

    async def close(self) -> None:
        """Fails what runs and ends the process."""
        self._line.close("The model is being unloaded: try again.")
        self._runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._runner
        await self._drop_link()

    async def _run(self) -> None:
        try:
            while True:
                job = await self._line.next()
                try:
                    result = await self._answer(job)
                except DomainError as error:
                    result = error
                except Exception as error:
                    _log.exception("an inference of OpenVINO failed in a way not foreseen")
                    result = error
                self._line.finish(job, result)
        finally:
            self._line.close("The engine has stopped: load the model again.")

    async def _answer(self, job: TensorJob) -> Inferred | DomainError:
        if self._link is None:
            self._link, _ = await open_link(self._load)
        link, key = self._link, next(self._keys)
        link.send(Run(key, [_array(tensor) for tensor in job.inputs]))
        receiving = asyncio.ensure_future(link.receive())
        try:
            await asyncio.wait({receiving, job.done}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():  # nobody waits for it any more
                link.send(Stop(key))
                await asyncio.wait({receiving}, timeout=_STOP_S)
            answer = receiving.result() if receiving.done() else None
        finally:
            if not receiving.done():
                receiving.cancel()
        return await self._result(answer)

    async def _result(self, answer: FromTensorWorker | None) -> Inferred | DomainError:
        match answer:
            case Ran():
                tensors = tuple(_tensor(array) for array in answer.outputs)
                return Inferred(tensors, answer.seconds)
            case Refused(too_large=size) if size:
                return MessageTooLarge(
                    f"The model's outputs take {size} bytes, which is more than an answer may "
                    f"have: send fewer or smaller tensors at a time."
                )
            case Refused(unfit=name) if name:
                return InvalidArgument(
                    f"'tensors': a number of the input `{name}` is beyond the 32 bits that this "
                    f"model's engine computes whole numbers with.",
                    field="tensors",
                )
            case Refused():
                _log.warning("OpenVINO refused an inference: %s", answer.why)
                return InvalidArgument(
                    "The model can't compute with these tensors: see that their sizes fit each "
                    "other, and their values the model.",
                    field="tensors",
                )
            case Loaded() | Broken() | None:
                _log.error("the process of a tensor engine ended in the middle of an inference")
                await self._drop_link()
                return Unavailable(
                    "The model's process ended in the middle of the inference. Try again.",
                    retry_after_s=1.0,
                )

    async def _drop_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()


def _array(tensor: Tensor) -> Array:
    return Array(tensor.name, tensor.datatype, list(tensor.shape), tensor.data)


def _tensor(array: Array) -> Tensor:
    return Tensor(array.name, array.datatype, tuple(array.shape), array.data)

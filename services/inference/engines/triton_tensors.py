"""Runs plain tensor models on Triton Inference Server: one request, one answer.

Triton queues and batches; here it is only bounded how much is on its way to it. Of latency, its
queue is a part: Triton tells nobody how long a request waited.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from services.errors import (
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MessageTooLarge,
    QueueFull,
)
from services.inference.byte_strings import BYTES, count_elements
from services.inference.engines.tensor_line import MOST_BYTES
from services.inference.engines.tensor_trials import zeros
from services.inference.engines.triton_tensor_contract import TensorContract, contract_of
from services.inference.tensor_engine import (
    NUMBERS,
    Inferred,
    Tensor,
    TensorEngineInfo,
    TensorModelSpec,
    TensorSpec,
    TensorStatus,
)
from services.serving.throughput import Throughput
from services.tritonserver import calls, tensors
from services.tritonserver.calls import CallOptions
from services.tritonserver.closing import Closing
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.hosted import HostedModel, Outputs
from services.tritonserver.protocol import ModelConfig

_MOST_OUTPUT_BYTES = 60 * 1024 * 1024
"""Outputs of an answer, together."""
_OFF_LOOP_BYTES = 64 * 1024
_PROBE_S = 60.0
_log = logging.getLogger(__name__)


class TritonTensors:
    """Runs a model. Must be made on the event loop that uses it."""

    def __init__(self, hosted: HostedModel, contract: TensorContract, *, queue_limit: int) -> None:
        self._hosted = hosted
        self._contract = contract
        self._queue_limit = queue_limit
        self._closing = Closing()
        self._outstanding = 0
        self._bytes = 0
        self._throughput = Throughput()
        self._seconds = 0.0
        self._count = 0

    @property
    def info(self) -> TensorEngineInfo:
        """What it is."""
        return self._contract.info

    async def infer(self, inputs: Sequence[Tensor], *, deadline: float | None = None) -> Inferred:
        """Runs the model once."""
        _check_rows(inputs, self._contract)
        size = sum(len(tensor.data) for tensor in inputs)
        self._admit(size)
        begun = time.monotonic()
        self._outstanding += 1
        self._bytes += size
        try:
            outputs = await self._answer(inputs, CallOptions(deadline=deadline))
        finally:
            self._outstanding -= 1
            self._bytes -= size
        size = sum(len(tensor.raw) for tensor in outputs.values())
        if size <= _OFF_LOOP_BYTES:
            found = _checked(outputs, self.info.outputs)
        else:
            found = await asyncio.to_thread(_checked, outputs, self.info.outputs)
        return self._done(found, time.monotonic() - begun)

    def status(self) -> TensorStatus:
        """Counts at this moment."""
        running = min(self._outstanding, self._slots)
        return TensorStatus(
            running=running,
            waiting=self._outstanding - running,
            completed_24h=self._throughput.jobs_24h(time.monotonic()),
            mean_latency_s=self._seconds / self._count if self._count else None,
        )

    async def probe(self) -> None:
        """Runs the model on zeros, wherever it is."""
        await self._closing.run(self._hosted.probe())

    async def lost(self) -> DomainError:
        """Waits until no Triton has it any more."""
        return await self._hosted.lost()

    async def close(self) -> None:
        """Fails what runs, and unloads the model."""
        self._closing.close()
        await self._hosted.close()

    @property
    def _slots(self) -> int:
        return self._contract.slots * max(1, len(self._hosted.addresses))

    def _admit(self, size: int) -> None:
        self._closing.check()
        ahead = self._outstanding
        full = ahead >= self._slots + self._queue_limit
        if full or (ahead and self._bytes + size > MOST_BYTES):
            raise QueueFull(
                "Too many inferences wait for this model. Try again later.",
                retry_after_s=self._throughput.retry_after_s(ahead),
            )

    async def _answer(self, inputs: Sequence[Tensor], options: CallOptions) -> Outputs:
        given = [tensors.Tensor(one.name, one.datatype, one.shape, one.data) for one in inputs]
        try:
            return await self._closing.run(self._hosted.infer(given, options=options))
        except DeadlineExceeded:
            raise DeadlineExceeded(
                "The deadline passed before the inference was done. Give it more time."
            ) from None
        except InvalidArgument:
            raise InvalidArgument(
                "The model can't compute with these tensors: see that their sizes fit each other, "
                "and their values the model.",
                field="tensors",
            ) from None

    def _done(self, found: tuple[Tensor, ...], seconds: float) -> Inferred:
        self._throughput.batch_done(1, seconds)
        self._throughput.job_done(time.monotonic())
        self._seconds += seconds
        self._count += 1
        return Inferred(found, seconds)


class TritonTensorLoader:
    """Makes engines of what Triton's repository holds; folders are not looked at."""

    def __init__(self, triton: Triton, *, queue_limit: int) -> None:
        """Takes how many inferences of a model may wait beside those that run."""
        self._triton = triton
        self._queue_limit = queue_limit

    async def load(self, spec: TensorModelSpec, progress: Callable[[float], None]) -> TritonTensors:
        """Loads the model wherever Triton is, and has it answer once.

        Raises:
            FailedPrecondition: it is none that answers each request once.
            Unavailable: no Triton can load it; the message has its reason.
        """
        if spec.dtype != "auto":
            raise FailedPrecondition(
                f"Tensor models on Triton can't be loaded as {spec.dtype}: what a model computes "
                f"with is decided where it was made. Leave that out of its deployment."
            )
        hosted = await HostedModel.open(self._triton, spec.model, probe=_try)
        try:
            contract = contract_of(hosted.config)
        except BaseException:
            await hosted.close()
            raise
        progress(1.0)
        return TritonTensors(hosted, contract, queue_limit=self._queue_limit)


async def _try(endpoint: Endpoint, config: ModelConfig) -> None:
    """Has a model compute with zeros. That it may refuse them: nobody knows what it takes."""
    specs = [spec for spec in contract_of(config).info.inputs if not spec.optional]
    given = [tensors.Tensor(one.name, one.datatype, one.shape, one.data) for one in zeros(specs)]
    deadline = asyncio.get_running_loop().time() + _PROBE_S
    request = tensors.to_request(config.name, given)
    try:
        await calls.infer(endpoint, request, CallOptions(deadline=deadline))
    except (InvalidArgument, MessageTooLarge, Internal):
        _log.info("Triton's model %s answered zeros with an error", config.name)


def _check_rows(inputs: Sequence[Tensor], contract: TensorContract) -> None:
    """Raises where inputs are no batch that the model takes."""
    rows = {one.shape[0] for one in inputs if one.name in contract.batched}
    if len(rows) > 1:
        raise InvalidArgument(
            "'tensors': the first dimension is the batch: it must be the same in all inputs.",
            field="tensors",
        )
    if not rows <= set(range(1, contract.most_rows + 1)):
        raise InvalidArgument(
            f"'tensors': a batch of this model has 1 to {contract.most_rows} rows. Send more in "
            f"several requests.",
            field="tensors",
        )


def _checked(outputs: Outputs, specs: Sequence[TensorSpec]) -> tuple[Tensor, ...]:
    """The outputs of a model in its order, if they are whole."""
    if sum(len(one.raw) for one in outputs.values()) > _MOST_OUTPUT_BYTES:
        raise MessageTooLarge(
            "The model's outputs take more bytes than an answer may have: send fewer or smaller "
            "tensors at a time."
        )
    found: list[Tensor] = []
    for spec in specs:
        one = outputs.get(spec.name)
        if one is None:
            continue  # a model may leave outputs out
        count = math.prod(one.shape)
        if one.datatype == BYTES:
            whole = count_elements(one.raw) == count
        else:
            whole = one.datatype in NUMBERS and len(one.raw) == count * NUMBERS[one.datatype]
        if not whole:
            _log.error("Triton's output %s is not as long as its shape", spec.name)
            raise Internal(f"The model's output `{spec.name}` is broken.")
        found.append(Tensor(one.name, one.datatype, one.shape, one.raw))
    if not found:
        raise Internal("The model answered without any of its outputs.")
    return tuple(found)

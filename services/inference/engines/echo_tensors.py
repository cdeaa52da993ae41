"""A tensor engine that answers with the tensors that it was given. It needs no model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.errors import Unavailable
from services.inference.tensor_engine import (
    Inferred,
    Tensor,
    TensorEngineInfo,
    TensorModelSpec,
    TensorSpec,
    TensorStatus,
)
from services.serving.throughput import Throughput

INPUT = TensorSpec("input", "FP32", None)
OUTPUT = TensorSpec("output", "FP32", None)


class EchoTensors:
    """Echoes one tensor, of any shape."""

    def __init__(self, datatype: str = INPUT.datatype) -> None:
        """Takes the type of the tensor."""
        given, answered = (replace(spec, datatype=datatype) for spec in (INPUT, OUTPUT))
        self._info = TensorEngineInfo("echo", "cpu", "none", "echo-1", (given,), (answered,))
        self._throughput = Throughput()
        self._closed = False

    @property
    def info(self) -> TensorEngineInfo:
        """What it is."""
        return self._info

    async def infer(self, inputs: Sequence[Tensor], *, deadline: float | None = None) -> Inferred:
        """Echoes at once, so that no deadline passes meanwhile."""
        await self.probe()
        [given] = inputs
        self._throughput.job_done(time.monotonic())
        output = Tensor(OUTPUT.name, given.datatype, given.shape, given.data)
        return Inferred((output,), latency_s=0.0)

    def status(self) -> TensorStatus:
        """Counts at this moment."""
        completed = self._throughput.jobs_24h(time.monotonic())
        return TensorStatus(0, 0, completed, 0.0 if completed else None)

    async def probe(self) -> None:
        """There is no forward pass to run."""
        if self._closed:
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)

    async def close(self) -> None:
        """Answers no more."""
        self._closed = True


class EchoTensorLoader:
    """Makes echo engines."""

    async def load(self, spec: TensorModelSpec, progress: Callable[[float], None]) -> EchoTensors:
        """Makes one; the folder is not looked at."""
        progress(1.0)
        return EchoTensors()

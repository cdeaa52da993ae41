"""The tensor engine port: what InferenceService needs of whatever maps tensors to tensors.

Every method is called on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.inference.byte_strings import BYTES

NUMBERS: Mapping[str, int] = {
    "BOOL": 1,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Bytes of an element, by Triton's name of the number type."""

DATATYPES = frozenset({*NUMBERS, BYTES})
"""Every type of a tensor."""

ANY_SIZE = -1


@dataclass(frozen=True, slots=True)
class Tensor:
    """A dense array."""

    name: str
    datatype: str
    """One of `DATATYPES`."""
    shape: tuple[int, ...]
    data: bytes
    """Little-endian, row-major; of BYTES as `byte_strings` has it."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What an input has to be, or what an output is."""

    name: str
    datatype: str
    """One of `DATATYPES`; empty is any."""
    shape: tuple[int, ...] | None
    """Sizes, -1 for any; None for any number of dimensions."""
    optional: bool = False
    """Whether an input may be left out."""


@dataclass(frozen=True, slots=True)
class TensorEngineInfo:
    """What the engine is; fixed while it lives."""

    name: str
    device: str
    dtype: str
    """Number type that it computes with."""
    build: str
    """Identifies library versions; part of the fingerprint."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class Inferred:
    """What an inference gave."""

    tensors: tuple[Tensor, ...]
    latency_s: float
    """Time in the engine, without the queue."""


@dataclass(frozen=True, slots=True)
class TensorStatus:
    """Counts at this moment."""

    running: int
    waiting: int
    completed_24h: int
    """Inferences that ended without failure during the last 24 hours."""
    mean_latency_s: float | None
    """Of all since it was loaded; None before the first."""


class TensorEngine(Protocol):
    """Runs one model that maps tensors to tensors."""

    @property
    def info(self) -> TensorEngineInfo:
        """What it is."""
        ...

    async def infer(self, inputs: Sequence[Tensor], *, deadline: float | None = None) -> Inferred:
        """Runs the model once. The inputs are as `info` says they have to be; cancelling ends it.

        `deadline` is a time of the event loop.

        Raises:
            QueueFull: too many inferences wait, or their tensors are too large together.
            DeadlineExceeded: the deadline passed.
            InvalidArgument: the model can't compute with these tensors.
            MessageTooLarge: the outputs are larger than an answer may be.
            Unavailable: the engine is closing, or failed meanwhile.
        """
        ...

    def status(self) -> TensorStatus:
        """Counts at this moment."""
        ...

    async def probe(self) -> None:
        """Raises when the model can't answer."""
        ...

    async def close(self) -> None:
        """Fails what runs with `Unavailable` and frees what it holds."""
        ...


@dataclass(frozen=True, slots=True)
class TensorModelSpec:
    """What is to be loaded."""

    model: str
    """The model's ID."""
    source: Path
    dtype: str = "auto"


class TensorEngineLoader(Protocol):
    """Loads models with one kind of tensor engine."""

    async def load(self, spec: TensorModelSpec, progress: Callable[[float], None]) -> TensorEngine:
        """Loads off the event loop and reports its share done, in [0, 1].

        Raises:
            FailedPrecondition: the folder holds no model that the engine runs; the message says
                what to do.
        """
        ...

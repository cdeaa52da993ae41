"""What the tensor engine and its worker process say to each other, as frames of MessagePack."""

import msgspec

from services.inference.engines.openvino_messages import Broken


class Load(msgspec.Struct, frozen=True):
    """To the worker, first: what to run."""

    file: str
    precision: str
    """Number type of activations, OpenVINO's names: `f32`, `bf16`, `f16`."""
    threads: int


class Array(msgspec.Struct, frozen=True, array_like=True):
    """A tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: bytes


class Run(msgspec.Struct, frozen=True, tag=True):
    """To the worker: run the model once."""

    key: int
    inputs: list[Array]


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To the worker: nobody waits for this run any more."""

    key: int


class Form(msgspec.Struct, frozen=True, array_like=True):
    """What an input has to be, or what an output is."""

    name: str
    datatype: str
    shape: list[int] | None


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From the worker, first: the model is loaded."""

    inputs: list[Form]
    outputs: list[Form]
    build: str


class Ran(msgspec.Struct, frozen=True, tag=True):
    """From the worker: a run is over."""

    outputs: list[Array]
    seconds: float


class Refused(msgspec.Struct, frozen=True, tag=True):
    """From the worker: a run failed, or was stopped."""

    why: str
    unfit: str = ""
    """Name of an input with a number that the engine can't compute with."""
    too_large: int = 0
    """Bytes of outputs that are larger than an answer may be."""


ToTensorWorker = Run | Stop
FromTensorWorker = Loaded | Broken | Ran | Refused

"""Tensors on the way to Triton and back: typed values as their raw content."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from services.errors import Internal
from services.tritonserver.protocol import InferRequest, InferResponse, pb

BYTES = "BYTES"
NUMPY_TYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""NumPy's types of Triton's; BYTES and BF16 have none."""
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named tensor."""

    name: str
    datatype: str
    """As the Open Inference Protocol spells it: `FP32`, `BYTES`, …"""
    shape: tuple[int, ...]
    raw: bytes
    """Little-endian and row by row; elements of BYTES each after their length in four bytes."""

    def array(self) -> "np.ndarray[Any, np.dtype[Any]]":
        """Its values; of all types but BYTES and BF16."""
        return np.frombuffer(self.raw, NUMPY_TYPES[self.datatype]).reshape(self.shape)

    def elements(self) -> list[bytes]:
        """The elements of BYTES."""
        return split_bytes(self.raw)

    def texts(self) -> list[str]:
        """The elements of BYTES, as text."""
        return [one.decode("utf-8", "replace") for one in self.elements()]


def bytes_tensor(name: str, values: Sequence[bytes | str], shape: Sequence[int] = ()) -> Tensor:
    """A tensor of byte strings; without a shape, of one dimension."""
    return Tensor(name, BYTES, tuple(shape) or (len(values),), join_bytes(values))


def tensor(name: str, datatype: str, values: Any, shape: Sequence[int] | None = None) -> Tensor:
    """A tensor of numbers or truths; without a shape, as the values are nested."""
    array = np.asarray(values, NUMPY_TYPES[datatype])
    return Tensor(name, datatype, array.shape if shape is None else tuple(shape), array.tobytes())


def join_bytes(values: Iterable[bytes | str]) -> bytes:
    """The raw content of a BYTES tensor."""
    parts: list[bytes] = []
    for value in values:
        element = value.encode() if isinstance(value, str) else value
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def split_bytes(raw: bytes) -> list[bytes]:
    """The elements of a BYTES tensor's raw content."""
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        if len(raw) - at < _LENGTH.size:
            raise Internal("Triton answered with a broken tensor.")
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if len(raw) - at < length:
            raise Internal("Triton answered with a broken tensor.")
        elements.append(raw[at : at + length])
        at += length
    return elements


def to_request(model: str, inputs: Sequence[Tensor], outputs: Sequence[str] = ()) -> InferRequest:
    """The request with these inputs; without names of outputs, for all."""
    request = pb.ModelInferRequest
    return request(
        model_name=model,
        inputs=[
            request.InferInputTensor(name=one.name, datatype=one.datatype, shape=one.shape)
            for one in inputs
        ],
        outputs=[request.InferRequestedOutputTensor(name=name) for name in outputs],
        raw_input_contents=[one.raw for one in inputs],
    )


def from_response(response: InferResponse) -> dict[str, Tensor]:
    """The outputs of an answer, by name."""
    found: dict[str, Tensor] = {}
    if len(response.outputs) != len(response.raw_output_contents):
        raise Internal("Triton answered with tensors that have no raw content.")
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        one = Tensor(output.name, output.datatype, tuple(output.shape), raw)
        if one.datatype in NUMPY_TYPES:
            size = np.dtype(NUMPY_TYPES[one.datatype]).itemsize
            if prod(one.shape) * size != len(raw):
                raise Internal("Triton answered with a tensor that is not as long as its shape.")
        found[one.name] = one
    return found

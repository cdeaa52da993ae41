"""Elements of tensors: as JSON has them, and as the bytes of their types. No I/O."""

import itertools
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.errors import Problem, ProblemError, invalid

_MOST_DIMENSIONS = 32

_CODES = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "BF16": "f",
    "FP32": "f",
    "FP64": "d",
}
"""Letters of `struct` for number types. Those of BF16 are cut from FP32."""

BYTES = "BYTES"
"""The type of tensors of byte strings, each behind its length in four bytes."""

DATATYPES = (*_CODES, BYTES)
"""Types of tensors that have a form in JSON."""

_GREATEST = {
    "FP16": 65504.0,
    "BF16": float.fromhex("0x1.fep127"),
    "FP32": float.fromhex("0x1.fffffep127"),
    "FP64": float.fromhex("0x1.fffffffffffffp1023"),
}
_TYPES: Mapping[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype("<u2"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}


def unnested(value: Any, path: str) -> tuple[list[Any], tuple[int, ...]]:
    """All numbers in a row, and the sizes of the dimensions.

    Raises:
        ProblemError: the arrays are ragged, or too deep.
    """
    level: list[Any] = [value]
    shape: list[int] = []
    while level and isinstance(level[0], list):
        sizes = {len(cast("list[Any]", one)) if isinstance(one, list) else -1 for one in level}
        if len(sizes) != 1 or len(shape) == _MOST_DIMENSIONS:
            raise invalid(
                f"Invalid '{path}': the arrays of one depth must be equally long, and at most "
                f"{_MOST_DIMENSIONS} deep.",
                path,
            )
        shape.append(sizes.pop())
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def packed(numbers: list[Any], shape: tuple[int, ...], datatype: str, path: str) -> bytes:
    """Writes the elements of a tensor of one of `DATATYPES`.

    Raises:
        ProblemError: one is not of the type.
    """
    if datatype == BYTES:
        return _strings(numbers, shape, path)
    whole = datatype.startswith(("INT", "UINT"))
    allowed: set[type] = {bool} if datatype == "BOOL" else {int} if whole else {int, float}
    if not set(map(type, numbers)) <= allowed:
        word = "a boolean" if datatype == "BOOL" else "an integer" if whole else "a number"
        where = _first(numbers, shape, path, lambda number: type(number) not in allowed)
        message = f"Invalid type for '{where}': expected {word}, as the model takes {datatype}."
        raise invalid(message, where, "invalid_type")
    try:
        data = struct.pack(f"<{len(numbers)}{_CODES[datatype]}", *numbers)
        return _halved(data) if datatype == "BF16" else data
    except (struct.error, OverflowError):
        most, least = _bounds(datatype)
        where = _first(numbers, shape, path, lambda number: not least <= number <= most)
        message = f"Invalid '{where}': beyond what the model's {datatype} holds."
        raise invalid(message, where) from None


def array_of(tensor: inference_pb2.Tensor) -> "np.ndarray[Any, Any]":
    """The elements of a tensor in a row; byte strings as texts.

    Raises:
        ProblemError: it has a type that is not known here, or byte strings that are no texts.
    """
    if tensor.datatype == BYTES:
        return np.array(_texts(tensor), np.dtype(object))
    if tensor.datatype not in _TYPES:
        raise unknown_type(tensor.datatype)
    array = np.frombuffer(tensor.data, _TYPES[tensor.datatype])
    if tensor.datatype == "BF16":
        array = (array.astype(np.dtype("<u4")) << 16).view(np.dtype("<f4"))
    return array


def unknown_type(datatype: str) -> ProblemError:
    """Makes the error for tensors of a type that has no form in JSON."""
    message = f"The model has tensors of the type {datatype}, which have no form in JSON here."
    return ProblemError(Problem("UNIMPLEMENTED", message))


def _strings(texts: list[Any], shape: tuple[int, ...], path: str) -> bytes:
    if not set(map(type, texts)) <= {str}:
        where = _first(texts, shape, path, lambda text: type(text) is not str)
        message = f"Invalid type for '{where}': expected a string, as the model takes {BYTES}."
        raise invalid(message, where, "invalid_type")
    strings = [cast("str", text).encode() for text in texts]
    return b"".join(len(one).to_bytes(4, "little") + one for one in strings)


def _bounds(datatype: str) -> tuple[float, float]:
    """The greatest and the least number of a type."""
    if datatype in _GREATEST:
        return _GREATEST[datatype], -_GREATEST[datatype]
    bits = int(datatype.rpartition("T")[2])
    if datatype.startswith("U"):
        return 2**bits - 1, 0
    return 2 ** (bits - 1) - 1, -(2 ** (bits - 1))


def _first(
    numbers: list[Any], shape: tuple[int, ...], path: str, wrong: Callable[[Any], bool]
) -> str:
    """The path of the first number that is wrong."""
    at = next((at for at, number in enumerate(numbers) if wrong(number)), 0)
    places: list[int] = []
    for size in reversed(shape):
        at, place = divmod(at, size)
        places.append(place)
    return path + "".join(f"[{place}]" for place in reversed(places))


def _halved(data: bytes) -> bytes:
    """The upper halves of 32-bit floats, rounded to the nearest, ties to even.

    Raises:
        OverflowError: a number is too large for that.
    """
    bits = np.frombuffer(data, np.dtype("<u4")).astype(np.uint64)
    halves = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    if np.any(halves & 0x7F80 == 0x7F80):  # infinite, where it was finite
        raise OverflowError
    return halves.astype(np.dtype("<u2")).tobytes()


def _texts(tensor: inference_pb2.Tensor) -> list[str]:
    found: list[str] = []
    at, data = 0, tensor.data
    try:
        while at < len(data):
            begin = at + 4
            at = begin + int.from_bytes(data[at:begin], "little")
            found.append(data[begin:at].decode())
    except UnicodeDecodeError:
        raise invalid(
            f"The model's answer `{tensor.name}` holds bytes that are no text in UTF-8, which JSON "
            f"can't tell. Ask for binary data, or use gRPC.",
            None,
        ) from None
    return found

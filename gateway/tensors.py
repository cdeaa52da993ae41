"""Raw tensors of the inference service as JSON: nested arrays of numbers. No I/O."""

import itertools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
import numpy as np
import orjson
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.errors import Problem, ProblemError, invalid
from gateway.validation import missing

MOST_NUMBERS = 2**22
"""Numbers of one request, or of one answer: more of them as JSON would hold up everybody else."""

_MOST_DIMENSIONS = 32
_SHOWN = 64

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

Specs = Sequence[inference_pb2.TensorSpec]


def to_tensors(
    data: bytes, specs: Specs, field: str, *, batched: bool = False
) -> inference_pb2.TensorList:
    """Reads arrays: one for a model with one input, or an object with one for each input.

    Args:
        data: JSON of an array or an object.
        specs: the inputs of the model.
        field: where it stands in the request.
        batched: whether an array of one dimension less is a batch of one.

    Raises:
        ProblemError: it is not what the model takes.
    """
    if data.count(b",") > MOST_NUMBERS:
        message = f"Invalid '{field}': more than {MOST_NUMBERS} numbers in one request."
        raise invalid(message, field, "array_above_max_length")
    try:
        value: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        message = f"Invalid '{field}': nested too deeply, or with a number out of range."
        raise invalid(message, field) from None
    if isinstance(value, dict):
        given = _named(cast("dict[str, Any]", value), specs, field)
    else:
        given = [(field, _only(specs, field), value)]
    return inference_pb2.TensorList(
        tensors=[_tensor(value, spec, path, batched=batched) for path, spec, value in given]
    )


def outputs(tensors: Sequence[inference_pb2.Tensor], *, named: bool) -> bytes:
    """Renders what a model gave: an array, or an object with one for each output.

    What is no finite number is null.

    Raises:
        ProblemError: it is too large, or has a number type that is not known here.
    """
    if sum(math.prod(tensor.shape) for tensor in tensors) > MOST_NUMBERS:
        raise _too_large()
    if len(tensors) == 1 and not named:
        return _nested(tensors[0])
    items = (orjson.dumps(tensor.name) + b":" + _nested(tensor) for tensor in tensors)
    return b"{%b}" % b",".join(items)


def in_a_row(tensor: inference_pb2.Tensor) -> bytes:
    """Renders the numbers of a tensor without their arrays.

    Raises:
        ProblemError: it is too large, or has a number type that is not known here.
    """
    if math.prod(tensor.shape) > MOST_NUMBERS:
        raise _too_large()
    return orjson.dumps(_array(tensor), option=orjson.OPT_SERIALIZE_NUMPY)


def _only(specs: Specs, field: str) -> inference_pb2.TensorSpec:
    if len(specs) == 1:
        return specs[0]
    names = ", ".join(spec.name for spec in specs)
    raise invalid(
        f"Invalid '{field}': the model takes several inputs. Send an object with an array for "
        f"each of {names}.",
        field,
        "invalid_type",
    )


def _named(
    value: Mapping[str, Any], specs: Specs, field: str
) -> list[tuple[str, inference_pb2.TensorSpec, Any]]:
    names = [spec.name for spec in specs]
    for name in value:
        if name not in names:
            path = f"{field}.{name[:_SHOWN].encode('unicode_escape').decode('ascii')}"
            known = ", ".join(names)
            raise invalid(f"Unknown input '{path}'. The model takes {known}.", path)
    for name in names:
        if name not in value:
            raise missing(f"{field}.{name}")
    return [(f"{field}.{spec.name}", spec, value[spec.name]) for spec in specs]


def _tensor(
    value: Any, spec: inference_pb2.TensorSpec, path: str, *, batched: bool
) -> inference_pb2.Tensor:
    numbers, shape = _unnested(value, path)
    if batched and not spec.any_rank and len(shape) == len(spec.shape) - 1:
        shape = (1, *shape)
    _check_shape(shape, spec, path)
    datatype = spec.datatype or "FP32"
    if datatype not in _CODES:
        raise _unknown_type(datatype)
    data = _packed(numbers, shape, datatype, path)
    return inference_pb2.Tensor(name=spec.name, datatype=datatype, shape=shape, data=data)


def _unnested(value: Any, path: str) -> tuple[list[Any], tuple[int, ...]]:
    """All numbers in a row, and the sizes of the dimensions."""
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


def _check_shape(shape: tuple[int, ...], spec: inference_pb2.TensorSpec, path: str) -> None:
    if spec.any_rank:
        return
    wanted = tuple(spec.shape)
    if len(shape) == len(wanted) and all(
        size in (-1, own) for size, own in zip(wanted, shape, strict=True)
    ):
        return
    words = ", ".join("any" if size < 0 else str(size) for size in wanted)
    message = (
        f"Invalid '{path}': the model takes an array of the shape [{words}], but got one of the "
        f"shape {list(shape)} instead."
    )
    raise invalid(message, path)


def _packed(numbers: list[Any], shape: tuple[int, ...], datatype: str, path: str) -> bytes:
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


def _nested(tensor: inference_pb2.Tensor) -> bytes:
    array = _array(tensor)
    array = array.reshape(tuple(tensor.shape))
    if not array.size or not array.shape:
        return orjson.dumps(array.tolist())
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _array(tensor: inference_pb2.Tensor) -> "np.ndarray[Any, Any]":
    if tensor.datatype not in _TYPES:
        raise _unknown_type(tensor.datatype)
    array = np.frombuffer(tensor.data, _TYPES[tensor.datatype])
    if tensor.datatype == "BF16":
        array = (array.astype(np.dtype("<u4")) << 16).view(np.dtype("<f4"))
    return array


def _too_large() -> ProblemError:
    message = (
        f"The model's answer has more than {MOST_NUMBERS} numbers, which is too many for JSON. "
        f"Send fewer at a time, or use gRPC."
    )
    return ProblemError(Problem("MESSAGE_TOO_LARGE", message))


def _unknown_type(datatype: str) -> ProblemError:
    message = f"The model has tensors of the type {datatype}, which have no form in JSON here."
    return ProblemError(Problem("UNIMPLEMENTED", message))

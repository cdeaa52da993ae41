"""Raw tensors of the inference service as JSON: nested arrays of numbers or texts. No I/O."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import orjson
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.errors import Problem, ProblemError, invalid
from gateway.tensor_elements import DATATYPES, array_of, packed, unknown_type, unnested
from gateway.validation import missing

MOST_NUMBERS = 2**22
"""Numbers of one request, or of one answer: more of them as JSON would hold up everybody else."""

_SHOWN = 64

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
    array = array_of(tensor)
    if array.dtype == object:
        return orjson.dumps(array.tolist())
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


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
    numbers, shape = unnested(value, path)
    if batched and not spec.any_rank and len(shape) == len(spec.shape) - 1:
        shape = (1, *shape)
    _check_shape(shape, spec, path)
    datatype = spec.datatype or "FP32"
    if datatype not in DATATYPES:
        raise unknown_type(datatype)
    data = packed(numbers, shape, datatype, path)
    return inference_pb2.Tensor(name=spec.name, datatype=datatype, shape=shape, data=data)


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


def _nested(tensor: inference_pb2.Tensor) -> bytes:
    array = array_of(tensor)
    array = array.reshape(tuple(tensor.shape))
    if not array.size or not array.shape or array.dtype == object:
        return orjson.dumps(array.tolist())
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _too_large() -> ProblemError:
    message = (
        f"The model's answer has more than {MOST_NUMBERS} numbers, which is too many for JSON. "
        f"Send fewer at a time, or use gRPC."
    )
    return ProblemError(Problem("MESSAGE_TOO_LARGE", message))

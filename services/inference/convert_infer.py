"""Reads and writes what raw inference takes and gives: parameters, structures and tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from google.protobuf import struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import sampling_pb2 as sampling_pb

from services.errors import InvalidArgument
from services.inference.convert import to_sampling
from services.inference.convert_events import duration
from services.inference.requests import Sampling
from services.inference.tensor_engine import Inferred, Tensor, TensorSpec
from services.rpc.validation import validate

_EXACT = 2**53
_TEXTS = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_ENUM)
_UNTOLD = ("logprobs",)
"""Fields of sampling whose result has no place in the answer."""


def to_text_parameters(parameters: struct_pb2.Struct) -> Sampling:
    """Reads parameters of a text model, which are fields of sampling.

    Raises:
        InvalidArgument: one is unknown, of the wrong type or out of range.
    """
    sampling = sampling_pb.Sampling()
    fields = sampling_pb.Sampling.DESCRIPTOR.fields_by_name
    for name, given in parameters.fields.items():
        field = f"parameters.{name}"
        if name not in fields or name in _UNTOLD:
            raise InvalidArgument(f"'{field}': there is no such parameter.", field=field)
        value = plain(given)
        if not _is_exact(value):
            raise InvalidArgument(
                f"'{field}': whole numbers beyond 2^53 are not exact here.", field=field
            )
        try:
            _check_type(value, fields[name])
            ParseDict({name: value}, sampling)
        except ParseError:
            raise InvalidArgument(f"'{field}': has the wrong type.", field=field) from None
    if sampling.n > 1:
        raise InvalidArgument("'parameters.n': one inference has one answer.", field="parameters.n")
    try:
        validate(sampling)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field=f"parameters.{error.field}") from None
    return to_sampling(sampling)


def refuse_parameters(parameters: struct_pb2.Struct) -> None:
    """Raises where parameters are given to a tensor model, which takes none."""
    for name in parameters.fields:
        field = f"parameters.{name}"
        raise InvalidArgument(f"'{field}': tensor models take no parameters.", field=field)


def to_tensor_list(tensors: pb.TensorList) -> list[Tensor]:
    """Reads tensors."""
    return [Tensor(one.name, one.datatype, tuple(one.shape), one.data) for one in tensors.tensors]


def from_inferred(model: str, inferred: Inferred) -> pb.InferResponse:
    """Writes an answer of tensors."""
    return pb.InferResponse(
        model=model,
        tensors=pb.TensorList(
            tensors=[
                pb.Tensor(name=one.name, datatype=one.datatype, shape=one.shape, data=one.data)
                for one in inferred.tensors
            ]
        ),
        latency=duration(inferred.latency_s),
    )


def from_specs(specs: Sequence[TensorSpec]) -> list[pb.TensorSpec]:
    """Writes what inputs have to be, or what outputs are."""
    return [
        pb.TensorSpec(
            name=spec.name,
            datatype=spec.datatype,
            shape=spec.shape or (),
            any_rank=spec.shape is None,
        )
        for spec in specs
    ]


def to_values(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Reads a structure."""
    return {name: plain(value) for name, value in struct.fields.items()}


def from_values(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Writes a structure."""
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def plain(value: struct_pb2.Value) -> Any:
    """Reads a value of a structure. Its numbers are floats."""
    kind = value.WhichOneof("kind")
    if kind == "list_value":
        return [plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return to_values(value.struct_value)
    return None if kind in (None, "null_value") else getattr(value, kind)


def _check_type(value: Any, field: FieldDescriptor) -> None:
    """Raises where a text stands for a number, which ParseDict would let pass."""
    if isinstance(value, list):
        for item in cast("list[Any]", value):
            _check_type(item, field)
    elif isinstance(value, dict):
        of_values = field.message_type and field.message_type.fields_by_name.get("value")
        if of_values:
            for item in cast("dict[str, Any]", value).values():
                _check_type(item, of_values)
    elif isinstance(value, str) and field.cpp_type not in _TEXTS:
        raise ParseError(field.name)


def _is_exact(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_exact(item) for item in cast("list[Any]", value))
    return not isinstance(value, float) or abs(value) <= _EXACT

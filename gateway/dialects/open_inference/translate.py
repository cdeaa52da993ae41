"""Requests of the dialect, translated into requests of the services. No I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.open_inference import schema
from gateway.errors import invalid, unsupported
from gateway.spelling import rules, spelling
from gateway.tensor_elements import DATATYPES, packed, unnested
from gateway.tensors import MOST_NUMBERS
from gateway.validation import decode

spelled = spelling(rules((r"^tensors\.tensors(.*)$", r"inputs\1"), (r"^tensors$", "inputs")))
"""Fields of the service, as the protocol calls them."""

_decoder = msgspec.json.Decoder(schema.OpenInferenceRequest)


@dataclass(frozen=True, slots=True)
class Asked:
    """An inference that is asked for."""

    tensors: inference_pb2.TensorList
    outputs: Mapping[str, bool]
    """Names that are wanted, and whether as bytes. Empty for all."""
    binary: bool
    """Whether outputs come as bytes where nothing else is said."""
    id: str
    timeout_s: float | None


def to_asked(head: bytes, tail: bytes) -> Asked:
    """Reads a request: its JSON, and the tensors behind it.

    Raises:
        ProblemError: it is not as it should be.
    """
    if head.count(b",") > MOST_NUMBERS:
        message = (
            f"Invalid 'inputs': more than {MOST_NUMBERS} numbers in JSON. Send them as binary data."
        )
        raise invalid(message, "inputs", "array_above_max_length")
    body = decode(_decoder, head)
    binary, timeout_s = _parameters(body.parameters)
    outputs: dict[str, bool] = {}
    for number, output in enumerate(body.outputs):
        where = f"outputs[{number}]"
        if output.name in outputs:
            raise invalid(f"Invalid '{where}.name': named before.", f"{where}.name")
        outputs[output.name] = _output(output.parameters, where, binary=binary)
    tensors = inference_pb2.TensorList()
    at = 0
    for number, given in enumerate(body.inputs):
        where = f"inputs[{number}]"
        size = _binary_size(given.parameters, where)
        if size is None:
            data = _data(given, where)
        else:
            if given.data is not UNSET:
                message = (
                    f"Invalid '{where}.data': not beside '{where}.parameters.binary_data_size'."
                )
                raise invalid(message, f"{where}.data")
            data, at = tail[at : at + size], at + size
        tensors.tensors.add(name=given.name, datatype=given.datatype, shape=given.shape, data=data)
    if at != len(tail):
        raise invalid(
            f"The body has {len(tail)} bytes behind its JSON, where the inputs' "
            f"'parameters.binary_data_size' add up to {at}.",
            "inputs",
        )
    return Asked(tensors, outputs, binary, body.id, timeout_s)


def _parameters(given: schema.Parameters) -> tuple[bool, float | None]:
    """Whether outputs shall be bytes, and the time that there is."""
    binary, timeout_s = False, None
    for name, value in given.items():
        field = f"parameters.{_shown(name)}"
        if name == "binary_data_output":
            binary = _boolean(value, field)
        elif name == "timeout":
            if type(value) is not int or not 0 <= value < 2**63:
                message = f"Invalid '{field}': takes microseconds, as a whole number."
                raise invalid(message, field, "invalid_type")
            timeout_s = value / 1e6 or None
        elif name == "priority" and value == 0:
            continue  # the default
        elif name.startswith("sequence_"):
            raise unsupported(field, "tensor models keep nothing between requests")
        else:
            raise _unknown(name, field)
    return binary, timeout_s


def _output(given: schema.Parameters, where: str, *, binary: bool) -> bool:
    for name, value in given.items():
        field = f"{where}.parameters.{_shown(name)}"
        if name != "binary_data":
            raise _unknown(name, field)
        binary = _boolean(value, field)
    return binary


def _binary_size(given: schema.Parameters, where: str) -> int | None:
    size = None
    for name, value in given.items():
        field = f"{where}.parameters.{_shown(name)}"
        if name != "binary_data_size":
            raise _unknown(name, field)
        if type(value) is not int or value < 0:
            message = f"Invalid '{field}': takes a number of bytes."
            raise invalid(message, field, "invalid_type")
        size = value
    return size


def _unknown(name: str, field: str) -> Exception:
    if name.startswith("shared_memory_"):
        return unsupported(field, "there is no shared memory, send tensors as binary data")
    return unsupported(field, "tensor models take no such parameter")


def _boolean(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(f"Invalid type for '{field}': expected a boolean.", field, "invalid_type")
    return value


def _data(given: schema.OpenInferenceInput, where: str) -> bytes:
    field = f"{where}.data"
    if given.datatype not in DATATYPES:
        path = f"{where}.datatype"
        raise invalid(f"Invalid '{path}': not one of {', '.join(DATATYPES)}.", path)
    if given.data is UNSET:
        raise invalid(
            f"Missing '{field}': send it, or '{where}.parameters.binary_data_size' with the bytes "
            f"behind the JSON.",
            field,
            "missing_required_parameter",
            "MISSING_FIELD",
        )
    elements: list[Any]
    elements, shape = unnested(given.data, field)
    if len(shape) > 1 and shape != tuple(given.shape):
        message = f"Invalid '{field}': nested as {list(shape)}, where the shape is {given.shape}."
        raise invalid(message, field)
    if len(elements) != math.prod(given.shape):
        raise invalid(
            f"Invalid '{field}': {len(elements)} elements, where the shape takes "
            f"{math.prod(given.shape)}.",
            field,
        )
    return packed(elements, shape, given.datatype, field)


def _shown(name: str) -> str:
    return name[:64].encode("unicode_escape").decode("ascii")

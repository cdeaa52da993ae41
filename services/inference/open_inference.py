"""Reads and writes the messages of the Open Inference Protocol.

They are those that tritonclient carries: two copies of the package `inference` can't be in one
process, and engines need tritonclient's.
"""

import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2

from services.errors import DomainError, InvalidArgument, NotFound, UnsupportedParameter
from services.inference.byte_strings import BYTES, joined
from services.inference.registry import AnyServed, ServedTensors
from services.inference.tensor_engine import DATATYPES, NUMBERS, Inferred, Tensor, TensorSpec
from services.inference.tensor_values import MOST_DIMENSIONS

pb: Any = service_pb2
"""The messages; their generated code has no types."""
_config_pb: Any = model_config_pb2

_SHARED = "shared_memory_"
_SEQUENCE = "sequence_"
_WIDE: Mapping[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "?"),
    **dict.fromkeys(("INT8", "INT16", "INT32"), ("int_contents", "<i4")),
    "INT64": ("int64_contents", "<i8"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), ("uint_contents", "<u4")),
    "UINT64": ("uint64_contents", "<u8"),
    "FP32": ("fp32_contents", "<f4"),
    "FP64": ("fp64_contents", "<f8"),
}
"""Where typed elements stand, and what they are there."""
_INPUT_DATA = re.compile(r"^inputs\[(\d+)\]\.data$")


@contextmanager
def spelled(model_field: str, *, raw: bool = False) -> Generator[None]:
    """Spells fields of errors as the protocol has them.

    Args:
        model_field: what the field with the model's name is called.
        raw: whether tensors came as raw contents.
    """
    try:
        yield
    except DomainError as error:
        if error.field is None:
            raise
        field = _field(error.field, model_field, raw=raw)
        message = error.message.replace(f"'{error.field}'", f"'{field}'")
        raise type(error)(
            message, field=field, retry_after_s=error.retry_after_s, metadata=error.metadata
        ) from None


def _field(field: str, model_field: str, *, raw: bool) -> str:
    if field == "model":
        return model_field
    field = re.sub(r"^tensors(\.tensors)?", "inputs", field)
    return _INPUT_DATA.sub(r"raw_input_contents[\1]", field) if raw else field


def version_of(served: AnyServed) -> str:
    """The version of a model: the number of the revision that serves."""
    return served.revision.rpartition("/")[2]


def check_version(served: AnyServed, version: str, field: str) -> None:
    """Raises where a request names another version than the one that serves."""
    own = version_of(served)
    if version and version != own:
        raise NotFound(
            f"'{field}': version {version[:32]} of the model `{served.id}` is not served; {own} "
            f"is. Leave the version out to take what serves.",
            field=field,
        )


def timeout_of(request: Any) -> float | None:
    """Reads the seconds that a request may take, and refuses all other parameters.

    Raises:
        UnsupportedParameter: there are others.
        InvalidArgument: the time is none.
    """
    timeout_s = None
    for name, value in request.parameters.items():
        field = f"parameters.{name[:64]}"
        given = getattr(value, value.WhichOneof("parameter_choice") or "bool_param")
        if name == "timeout":
            if type(given) is not int or given < 0:
                raise InvalidArgument(
                    f"'{field}': takes microseconds, as a whole number.", field=field
                )
            timeout_s = given / 1e6 or None
        elif name == "priority" and not given:
            continue  # the default
        elif name.startswith(_SEQUENCE):
            raise UnsupportedParameter(
                f"'{field}': tensor models keep nothing between requests.", field=field
            )
        else:
            raise UnsupportedParameter(
                f"'{field}': tensor models take no such parameter.", field=field
            )
    return timeout_s


def to_tensors(request: Any) -> list[Tensor]:
    """Reads the inputs of a request, typed or raw.

    Raises:
        DomainError: they are not whole.
    """
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise InvalidArgument(
            f"'raw_input_contents': has {len(raw)} entries for {len(inputs)} inputs. Send one for "
            f"each, in their order, or none.",
            field="raw_input_contents",
        )
    tensors: list[Tensor] = []
    for number, given in enumerate(inputs):
        where = f"inputs[{number}]"
        _refuse(given.parameters, f"{where}.parameters")
        if raw and given.HasField("contents"):
            raise InvalidArgument(
                f"'{where}.contents': must be left out where there are raw_input_contents.",
                field=f"{where}.contents",
            )
        data = raw[number] if raw else _packed(given, where)
        tensors.append(Tensor(given.name, given.datatype, tuple(given.shape), data))
    return tensors


def to_output_names(request: Any, specs: Sequence[TensorSpec]) -> list[str]:
    """Reads which outputs are wanted: all, where none is named.

    Raises:
        DomainError: the model has no such output, or it is named twice.
    """
    known = [spec.name for spec in specs]
    names: list[str] = []
    for number, wanted in enumerate(request.outputs):
        where = f"outputs[{number}]"
        _refuse(wanted.parameters, f"{where}.parameters")
        if wanted.name not in known:
            raise InvalidArgument(
                f"'{where}.name': the model has no such output. It gives {', '.join(known)}.",
                field=f"{where}.name",
            )
        if wanted.name in names:
            raise InvalidArgument(
                f"'{where}.name': this output was named before.", field=f"{where}.name"
            )
        names.append(wanted.name)
    return names or known


def from_inferred(
    served: ServedTensors, request_id: str, names: Sequence[str], inferred: Inferred
) -> Any:
    """Writes the outputs that are wanted; their contents are raw, as Triton's are."""
    by_name = {tensor.name: tensor for tensor in inferred.tensors}
    tensors = [by_name[name] for name in names if name in by_name]
    return pb.ModelInferResponse(
        model_name=served.id,
        model_version=version_of(served),
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=one.name, datatype=one.datatype, shape=one.shape
            )
            for one in tensors
        ],
        raw_output_contents=[one.data for one in tensors],
    )


def from_metadata(served: ServedTensors) -> Any:
    """Writes what a model takes and gives."""
    info = served.loaded.info
    return pb.ModelMetadataResponse(
        name=served.id,
        versions=[version_of(served)],
        platform=info.name,
        inputs=_metadata(info.inputs),
        outputs=_metadata(info.outputs),
    )


def from_config(served: ServedTensors) -> Any:
    """Writes the same as Triton's configuration; batches are a dimension like others."""
    info = served.loaded.info
    config = _config_pb.ModelConfig(
        name=served.id,
        platform=info.name,
        input=[_config_pb.ModelInput(**_form(spec)) for spec in info.inputs],
        output=[_config_pb.ModelOutput(**_form(spec)) for spec in info.outputs],
    )
    return pb.ModelConfigResponse(config=config)


def _metadata(specs: Iterable[TensorSpec]) -> list[Any]:
    # The protocol has no word for any number of dimensions.
    return [
        pb.ModelMetadataResponse.TensorMetadata(
            name=spec.name,
            datatype=spec.datatype,
            shape=(-1,) if spec.shape is None else spec.shape,
        )
        for spec in specs
    ]


def _form(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {
        "name": spec.name,
        "data_type": _config_pb.DataType.Value(f"TYPE_{kind}"),
        "dims": (-1,) if spec.shape is None else spec.shape,
    }


def _refuse(parameters: Mapping[str, Any], field: str) -> None:
    for name in parameters:
        where = f"{field}.{name[:64]}"
        if name.startswith(_SHARED):
            raise UnsupportedParameter(
                f"'{where}': there is no shared memory here. Send and take tensors in messages: "
                f"raw_input_contents, raw_output_contents.",
                field=where,
            )
        raise UnsupportedParameter(f"'{where}': there is no such parameter here.", field=where)


def _packed(given: Any, where: str) -> bytes:
    """The typed elements of an input as bytes."""
    datatype: str = given.datatype
    if datatype not in DATATYPES:
        raise InvalidArgument(
            f"'{where}.datatype': not one of {', '.join(NUMBERS)}, {BYTES}.",
            field=f"{where}.datatype",
        )
    kind = "bytes_contents" if datatype == BYTES else _WIDE.get(datatype, ("", ""))[0]
    for field, _ in given.contents.ListFields():
        if field.name != kind:
            way = f"{kind} or raw_input_contents" if kind else "raw_input_contents alone"
            raise InvalidArgument(
                f"'{where}.contents.{field.name}': elements of {datatype} stand in {way}.",
                field=f"{where}.contents.{field.name}",
            )
    if not kind:
        return b""
    elements = getattr(given.contents, kind)
    field = f"{where}.contents.{kind}"
    # Else the shape itself is wrong, which is told later; and its product may be too long to tell.
    is_shape = len(given.shape) <= MOST_DIMENSIONS and all(size >= 0 for size in given.shape)
    if is_shape and len(elements) != math.prod(given.shape):
        raise InvalidArgument(
            f"'{field}': has {len(elements)} elements, where the shape takes "
            f"{math.prod(given.shape)}.",
            field=field,
        )
    return joined(elements) if datatype == BYTES else _narrowed(elements, datatype, field)


def _narrowed(elements: Sequence[Any], datatype: str, field: str) -> bytes:
    wide = np.fromiter(elements, np.dtype(_WIDE[datatype][1]), len(elements))
    if wide.itemsize == NUMBERS[datatype]:
        return wide.tobytes()
    bounds = np.iinfo(datatype.lower())
    if wide.size and (wide.min() < bounds.min or wide.max() > bounds.max):
        raise InvalidArgument(f"'{field}': a number is beyond what {datatype} holds.", field=field)
    return wide.astype(f"<{wide.dtype.kind}{NUMBERS[datatype]}").tobytes()

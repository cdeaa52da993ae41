"""Answers of the services, translated into the dialect. No I/O."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import UNSET
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.answers import JSON
from gateway.dialects.dialect import Headers
from gateway.dialects.open_inference import answer_schema as schema
from gateway.dialects.open_inference.framing import HEADER
from gateway.dialects.open_inference.translate import Asked
from gateway.errors import Problem, ProblemError, invalid
from gateway.tensors import MOST_NUMBERS, in_a_row

BINARY = "application/octet-stream"
"""Type of answers with tensors behind their JSON."""


class Answer(NamedTuple):
    """A body, and the headers that say what it is."""

    headers: Headers
    body: bytes


def to_answer(asked: Asked, version: str, response: inference_pb2.InferResponse) -> Answer:
    """Renders what a model gave, as far as it is wanted.

    Raises:
        ProblemError: it gave no such output, or one that JSON can't hold.
    """
    by_name = {tensor.name: tensor for tensor in response.tensors.tensors}
    for number, name in enumerate(asked.outputs):
        if name not in by_name:
            where = f"outputs[{number}].name"
            known = ", ".join(by_name)
            raise invalid(
                f"Invalid '{where}': the model has no such output. It gives {known}.", where
            )
    wanted = asked.outputs or dict.fromkeys(by_name, asked.binary)
    as_json = [by_name[name] for name, binary in wanted.items() if not binary]
    if sum(math.prod(tensor.shape) for tensor in as_json) > MOST_NUMBERS:
        message = (
            f"The model's answer has more than {MOST_NUMBERS} numbers, which is too many for JSON. "
            f"Ask for binary data ('binary_data_output'), or send fewer at a time."
        )
        raise ProblemError(Problem("MESSAGE_TOO_LARGE", message))
    tail: list[bytes] = []
    outputs: list[schema.OpenInferenceAnswered] = []
    for name, binary in wanted.items():
        tensor = by_name[name]
        output = schema.OpenInferenceAnswered(name, tensor.datatype, list(tensor.shape))
        if binary:
            output.parameters = {"binary_data_size": len(tensor.data)}
            tail.append(tensor.data)
        else:
            output.data = cast("Any", msgspec.Raw(in_a_row(tensor)))
        outputs.append(output)
    head = msgspec.json.encode(
        schema.OpenInferenceAnswer(
            model_name=response.model,
            model_version=version or UNSET,
            id=asked.id or UNSET,
            outputs=outputs,
        )
    )
    if not tail:
        return Answer([JSON], head)
    headers = [
        (b"content-type", BINARY.encode()),
        (HEADER.encode(), b"%d" % len(head)),
    ]
    return Answer(headers, b"".join((head, *tail)))


def to_model(info: inference_pb2.RuntimeInfo) -> schema.OpenInferenceModel:
    """Renders what a tensor model takes and gives.

    Raises:
        ProblemError: it is another model.
    """
    if not info.inputs and not info.outputs:
        raise ProblemError(
            Problem(
                "INVALID_ARGUMENT",
                f"The model `{info.model}` takes text, and this protocol reaches tensor models. "
                f"Use another of the dialects.",
                param="model",
            )
        )
    return schema.OpenInferenceModel(
        name=info.model,
        versions=[version_of(info)],
        platform=info.engine,
        inputs=_forms(info.inputs),
        outputs=_forms(info.outputs),
    )


def version_of(info: inference_pb2.RuntimeInfo) -> str:
    """The version of a model: the number of the revision that serves."""
    return info.revision.rpartition("/")[2]


def check_version(info: inference_pb2.RuntimeInfo, version: str) -> None:
    """Raises where another version is named than the one that serves."""
    own = version_of(info)
    if version != own:
        message = (
            f"Version {version[:32]} of the model `{info.model}` is not served; {own} is. Leave "
            f"the version out to take what serves."
        )
        raise ProblemError(Problem("NOT_FOUND", message))


def _forms(specs: Iterable[inference_pb2.TensorSpec]) -> list[schema.OpenInferenceTensor]:
    return [
        # The protocol has no word for any number of dimensions.
        schema.OpenInferenceTensor(
            spec.name, spec.datatype, [-1] if spec.any_rank else list(spec.shape)
        )
        for spec in specs
    ]

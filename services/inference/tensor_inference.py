"""Inference on tensors: from what was asked to what the model gave."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from services.errors import InvalidArgument, MissingField, QueueFull
from services.inference.byte_strings import BYTES, count_elements
from services.inference.registry import ServedTensors
from services.inference.requests import Caller
from services.inference.tensor_engine import DATATYPES, NUMBERS, Inferred, Tensor, TensorSpec
from services.inference.tensor_values import check_shape
from services.metering import FREE, Meter, Outcome, Used, outcome_of

_FIELD = "tensors.tensors"
"""Where tensors stand in a request."""
_OFF_LOOP_BYTES = 64 * 1024
"""Larger byte strings are walked through on another thread."""


async def infer(
    served: ServedTensors,
    inputs: Sequence[Tensor],
    caller: Caller,
    meter: Meter,
) -> Inferred:
    """Runs a model once, and keeps account of it.

    Raises:
        DomainError: the inputs are not what the model takes, or it can't run now.
    """
    specs = served.loaded.info.inputs
    texts = sum(len(tensor.data) for tensor in inputs if tensor.datatype == BYTES)
    served.acquire()
    try:
        if texts <= _OFF_LOOP_BYTES:
            check(inputs, specs)
        else:
            await asyncio.to_thread(check, inputs, specs)
        return await _accounted(served, inputs, caller, meter)
    finally:
        served.release()


async def _accounted(
    served: ServedTensors, inputs: Sequence[Tensor], caller: Caller, meter: Meter
) -> Inferred:
    loop = asyncio.get_running_loop()
    metered = FREE
    if caller.work is not None:
        metered = await meter.admit(replace(caller.work, model=served.id))
    begun = loop.time()
    try:
        inferred = await served.loaded.infer(inputs, deadline=caller.deadline)
    except QueueFull:
        metered.withdraw()
        raise
    except BaseException as error:
        is_late = caller.deadline is not None and loop.time() >= caller.deadline
        metered.settle(Used(outcome_of(error, is_late=is_late), queued_s=loop.time() - begun))
        raise
    queued_s = max(0.0, loop.time() - begun - inferred.latency_s)
    metered.settle(Used(Outcome.OK, queued_s=queued_s, ran_s=inferred.latency_s))
    return inferred


def check(inputs: Sequence[Tensor], specs: Sequence[TensorSpec]) -> None:
    """Raises where inputs are not what a model takes."""
    by_name = {spec.name: spec for spec in specs}
    seen: set[str] = set()
    for number, tensor in enumerate(inputs):
        where = f"{_FIELD}[{number}]"
        spec = by_name.get(tensor.name)
        if spec is None:
            names = ", ".join(by_name)
            raise InvalidArgument(
                f"'{where}.name': the model has no such input. It takes {names}.",
                field=f"{where}.name",
            )
        if tensor.name in seen:
            raise InvalidArgument(
                f"'{where}.name': this input was given before.", field=f"{where}.name"
            )
        seen.add(tensor.name)
        _check_one(tensor, spec, where)
    for name, spec in by_name.items():
        if name not in seen and not spec.optional:
            raise MissingField(f"'{_FIELD}': the input `{name}` is missing.", field=_FIELD)


def _check_one(tensor: Tensor, spec: TensorSpec, where: str) -> None:
    if tensor.datatype not in DATATYPES:
        raise InvalidArgument(
            f"'{where}.datatype': not one of {', '.join(NUMBERS)}, {BYTES}.",
            field=f"{where}.datatype",
        )
    if spec.datatype not in ("", tensor.datatype):
        raise InvalidArgument(
            f"'{where}.datatype': the input `{spec.name}` takes {spec.datatype}.",
            field=f"{where}.datatype",
        )
    check_shape(tensor.shape, spec, f"{where}.shape")
    if tensor.datatype == BYTES:
        _check_strings(tensor, where)
        return
    expected = math.prod(tensor.shape) * NUMBERS[tensor.datatype]
    if len(tensor.data) != expected:
        raise InvalidArgument(
            f"'{where}.data': has {len(tensor.data)} bytes, where datatype and shape take "
            f"{expected}.",
            field=f"{where}.data",
        )
    if tensor.datatype == "BOOL" and tensor.data.translate(None, b"\x00\x01"):
        raise InvalidArgument(
            f"'{where}.data': the bytes of booleans are 0 or 1.", field=f"{where}.data"
        )


def _check_strings(tensor: Tensor, where: str) -> None:
    found = count_elements(tensor.data)
    if found is None:
        raise InvalidArgument(
            f"'{where}.data': the lengths in front of its elements (4 bytes each, little-endian) "
            f"do not add up to its {len(tensor.data)} bytes.",
            field=f"{where}.data",
        )
    expected = math.prod(tensor.shape)
    if found != expected:
        raise InvalidArgument(
            f"'{where}.data': has {found} elements, where the shape takes {expected}.",
            field=f"{where}.data",
        )

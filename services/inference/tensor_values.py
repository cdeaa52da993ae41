"""Nested arrays of numbers and texts as tensors, and tensors as nested arrays."""

import itertools
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from services.errors import InvalidArgument, MissingField
from services.inference.byte_strings import BYTES, elements, joined
from services.inference.tensor_engine import ANY_SIZE, NUMBERS, Tensor, TensorSpec

MOST_NUMBERS = 2**20
"""More take tensors: as nested arrays they would be slow, and large."""
MOST_DIMENSIONS = 32
_EXACT = 2**53
"""Whole numbers beyond it are not exact where numbers travel as doubles."""

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
    "FP32": "f",
    "FP64": "d",
}
"""Letters of `struct` for number types; it has none for BF16."""


def to_tensors(values: Mapping[str, Any], specs: Sequence[TensorSpec]) -> list[Tensor]:
    """Reads nested arrays by the names of inputs.

    Raises:
        InvalidArgument: a name is not an input's, an array is ragged, or a number doesn't fit.
        MissingField: an input is missing.
    """
    names = [spec.name for spec in specs]
    for name in values:
        if name not in names:
            raise InvalidArgument(
                f"'struct.{name}': the model has no such input. It takes {', '.join(names)}.",
                field=f"struct.{name}",
            )
    tensors: list[Tensor] = []
    count = 0
    for spec in specs:
        field = f"struct.{spec.name}"
        if spec.name not in values and spec.optional:
            continue
        if spec.name not in values:
            raise MissingField(f"'{field}': this input is missing.", field=field)
        flat, shape = _flat(values[spec.name], field)
        count += len(flat)
        if count > MOST_NUMBERS:
            raise InvalidArgument(
                f"'struct': more than {MOST_NUMBERS} numbers. Send `tensors` instead.",
                field="struct",
            )
        check_shape(shape, spec, field)
        tensors.append(Tensor(spec.name, spec.datatype, shape, _packed(flat, spec, field)))
    return tensors


def from_tensors(tensors: Iterable[Tensor]) -> dict[str, Any]:
    """Writes tensors as nested arrays; what is no number or infinite becomes None.

    Raises:
        InvalidArgument: they are too large for that, or hold whole numbers that it can't tell.
    """
    found: dict[str, Any] = {}
    count = 0
    for tensor in tensors:
        count += math.prod(tensor.shape)
        if count > MOST_NUMBERS:
            raise InvalidArgument(
                f"'struct': the answer has more than {MOST_NUMBERS} numbers. Send `tensors` "
                f"instead, to get tensors.",
                field="struct",
            )
        found[tensor.name] = _nested(_unpacked(tensor), tensor.shape)
    return found


def _flat(value: Any, field: str) -> tuple[list[Any], tuple[int, ...]]:
    """All numbers in a row, and the sizes of the dimensions."""
    level = [value]
    shape: list[int] = []
    while level and isinstance(level[0], list):
        sizes = {len(cast("list[Any]", one)) if isinstance(one, list) else -1 for one in level}
        if len(sizes) != 1 or len(shape) == MOST_DIMENSIONS:
            raise InvalidArgument(
                f"'{field}': the arrays of one depth must be equally long, and at most "
                f"{MOST_DIMENSIONS} deep.",
                field=field,
            )
        shape.append(sizes.pop())
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def _packed(flat: list[Any], spec: TensorSpec, field: str) -> bytes:
    datatype = spec.datatype
    if datatype == BYTES:
        return _strings(flat, field)
    kinds = set(map(type, flat))
    whole = datatype.startswith(("INT", "UINT"))
    if whole and kinds == {float}:  # as structures have them
        flat = [int(number) if number.is_integer() else number for number in flat]
        kinds = set(map(type, flat))
    allowed: set[type] = {bool} if datatype == "BOOL" else {int} if whole else {int, float}
    if not kinds <= allowed:
        word = "booleans" if datatype == "BOOL" else "whole numbers" if whole else "numbers"
        raise InvalidArgument(f"'{field}': it takes arrays of {word} alone.", field=field)
    if whole and any(abs(number) > _EXACT for number in flat):
        raise InvalidArgument(
            f"'{field}': whole numbers beyond 2^53 are not exact here. Send `tensors` instead.",
            field=field,
        )
    try:
        if datatype == "BF16":
            return _bfloat16(flat)
        return struct.pack(f"<{len(flat)}{_CODES[datatype]}", *flat)
    except (struct.error, OverflowError):
        raise InvalidArgument(
            f"'{field}': a number is beyond what {datatype} holds.", field=field
        ) from None


def _strings(flat: list[Any], field: str) -> bytes:
    if not all(isinstance(text, str) for text in flat):
        raise InvalidArgument(f"'{field}': it takes arrays of texts alone.", field=field)
    return joined(text.encode() for text in flat)


def _bfloat16(flat: list[Any]) -> bytes:
    """The upper halves of 32-bit floats, rounded to the nearest, ties to even."""
    bits = struct.unpack(f"<{len(flat)}I", struct.pack(f"<{len(flat)}f", *flat))
    halves = [(one + 0x7FFF + (one >> 16 & 1)) >> 16 for one in bits]
    if any(half & 0x7F80 == 0x7F80 for half in halves):  # infinite: it was finite before
        raise OverflowError
    return struct.pack(f"<{len(flat)}H", *halves)


def _unpacked(tensor: Tensor) -> Sequence[Any]:
    count = math.prod(tensor.shape)
    if tensor.datatype == BYTES:
        return _texts(tensor)
    if tensor.datatype == "BF16":
        halves = struct.unpack(f"<{count}H", tensor.data)
        whole = struct.pack(f"<{count}I", *(half << 16 for half in halves))
        return _finite(struct.unpack(f"<{count}f", whole))
    numbers = struct.unpack(f"<{count}{_CODES[tensor.datatype]}", tensor.data)
    if not tensor.datatype.startswith(("INT", "UINT")):
        return _finite(numbers)
    if NUMBERS[tensor.datatype] == 8 and any(abs(number) > _EXACT for number in numbers):
        raise InvalidArgument(
            "'struct': the answer has whole numbers beyond 2^53. Send `tensors` instead, to get "
            "tensors.",
            field="struct",
        )
    return numbers


def _texts(tensor: Tensor) -> Sequence[str]:
    try:
        return [one.decode() for one in elements(tensor.data)]
    except UnicodeDecodeError:
        raise InvalidArgument(
            f"'struct': the answer's `{tensor.name}` holds bytes that are no text in UTF-8. Send "
            f"`tensors` instead, to get tensors.",
            field="struct",
        ) from None


def _finite(numbers: Sequence[Any]) -> Sequence[Any]:
    return [number if math.isfinite(number) else None for number in numbers]


def _nested(flat: Sequence[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    size = len(flat) // shape[0] if shape[0] else 0
    return [_nested(flat[at * size : (at + 1) * size], shape[1:]) for at in range(shape[0])]


def check_shape(shape: Sequence[int], spec: TensorSpec, field: str) -> None:
    """Raises where sizes are not those that an input takes."""
    wanted = spec.shape
    if wanted is None:
        fits = len(shape) <= MOST_DIMENSIONS
    else:
        fits = len(shape) == len(wanted) and all(
            most in (ANY_SIZE, size) for size, most in zip(shape, wanted, strict=True)
        )
    if not fits or any(size < 0 for size in shape):
        raise InvalidArgument(
            f"'{field}': the input `{spec.name}` takes the shape {_words(wanted)}, not "
            f"{list(shape[:MOST_DIMENSIONS])}.",
            field=field,
        )


def _words(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return f"of at most {MOST_DIMENSIONS} dimensions"
    return f"[{', '.join('any' if size == ANY_SIZE else str(size) for size in shape)}]"

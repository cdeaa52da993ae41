"""Nested arrays as tensors and back: the same numbers, or a refusal that names the input."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.errors import InvalidArgument, MissingField
from services.inference.byte_strings import count_elements, elements, joined
from services.inference.tensor_engine import NUMBERS, Tensor, TensorSpec
from services.inference.tensor_inference import check
from services.inference.tensor_values import MOST_NUMBERS, from_tensors, to_tensors

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def as_in_a_structure(value: Any) -> Any:
    """Numbers of a structure are floats."""
    if isinstance(value, list):
        return [as_in_a_structure(item) for item in value]
    return float(value) if type(value) is int else value


@given(st.data(), st.sampled_from(sorted(DTYPES)), SHAPES)
def test_there_and_back(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    dtype = DTYPES[datatype]
    values = data.draw(arrays.arrays(dtype, shape))
    if dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0).astype(dtype)
    elif dtype.kind in "iu":
        values = np.clip(
            values, max(-(2**53), np.iinfo(dtype).min), min(2**53, np.iinfo(dtype).max)
        )
        values = values.astype(dtype)
    spec = TensorSpec("x", datatype, (-1,) * len(shape))
    # Nothing tells how long the arrays would be that an empty array doesn't hold.
    seen = shape[: shape.index(0) + 1] if 0 in shape else shape
    spec = TensorSpec("x", datatype, (-1,) * len(seen))
    [found] = to_tensors({"x": as_in_a_structure(values.tolist())}, [spec])
    assert found == Tensor("x", datatype, seen, values.tobytes())
    check([found], [spec])
    assert from_tensors([found]) == {"x": values.tolist()}


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_bfloat16_is_the_nearest(numbers: list[float]) -> None:
    spec = TensorSpec("x", "BF16", (-1,))
    try:
        [tensor] = to_tensors({"x": numbers}, [spec])
    except InvalidArgument:
        assert max(map(abs, numbers)) > 3.38e38
        return
    found = from_tensors([tensor])["x"]
    for number, near in zip(numbers, found, strict=True):
        [bits] = struct.unpack("<I", struct.pack("<f", near))
        assert bits & 0xFFFF == 0
        assert abs(number - near) <= max(abs(number) * 2**-8, 2**-133)


def test_what_is_no_number_is_told_as_none() -> None:
    data = struct.pack("<4f", math.nan, math.inf, -math.inf, 1)
    assert from_tensors([Tensor("x", "FP32", (2, 2), data)]) == {"x": [[None, None], [None, 1]]}


TEXTS = TensorSpec("x", "BYTES", (-1,))


@given(st.lists(st.text(), max_size=5))
def test_texts_there_and_back(texts: list[str]) -> None:
    [found] = to_tensors({"x": texts}, [TEXTS])
    assert count_elements(found.data) == len(texts)
    check([found], [TEXTS])
    assert from_tensors([found]) == {"x": texts}


@given(st.lists(st.binary(), max_size=5))
def test_byte_strings_there_and_back(strings: list[bytes]) -> None:
    data = joined(strings)
    assert elements(data) == strings
    assert count_elements(data) == len(strings)
    assert count_elements(data + b"\1") is None


def test_bytes_that_are_no_text_have_no_form_in_a_structure() -> None:
    with pytest.raises(InvalidArgument, match="UTF-8"):
        from_tensors([Tensor("x", "BYTES", (1,), joined([b"\xff"]))])


X = TensorSpec("x", "FP32", (-1, 2))
WHOLE = TensorSpec("x", "INT8", (-1,))
SCALAR = TensorSpec("x", "BOOL", ())


@pytest.mark.parametrize(
    ("spec", "value", "error", "field"),
    [
        (X, {}, MissingField, "struct.x"),
        (X, {"x": [[1, 2]], "y": 1}, InvalidArgument, "struct.y"),
        (X, {"x": [1, 2]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, 2, 3]]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, 2], [3]]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, 2], 3]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, "2"]]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, True]]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, None]]}, InvalidArgument, "struct.x"),
        (X, {"x": [[1, {}]]}, InvalidArgument, "struct.x"),
        (X, {"x": "text"}, InvalidArgument, "struct.x"),
        (X, {"x": None}, InvalidArgument, "struct.x"),
        (X, {"x": [[1e39, 0.0]]}, InvalidArgument, "struct.x"),
        (WHOLE, {"x": [1.5]}, InvalidArgument, "struct.x"),
        (WHOLE, {"x": [math.nan]}, InvalidArgument, "struct.x"),
        (WHOLE, {"x": [math.inf]}, InvalidArgument, "struct.x"),
        (WHOLE, {"x": [128.0]}, InvalidArgument, "struct.x"),
        (TensorSpec("x", "INT64", (-1,)), {"x": [2.0**60]}, InvalidArgument, "struct.x"),
        (TEXTS, {"x": [1.0]}, InvalidArgument, "struct.x"),
        (TEXTS, {"x": ["a", None]}, InvalidArgument, "struct.x"),
        (SCALAR, {"x": 1.0}, InvalidArgument, "struct.x"),
        (SCALAR, {"x": [True]}, InvalidArgument, "struct.x"),
        (TensorSpec("x", "FP32", None), {"x": [[[]] * 2]}, None, None),
    ],
)
def test_what_is_refused(
    spec: TensorSpec, value: dict[str, Any], error: type[Any] | None, field: str | None
) -> None:
    if error is None:
        to_tensors(value, [spec])
        return
    with pytest.raises(error) as caught:
        to_tensors(value, [spec])
    assert caught.value.field == field


def test_too_many_numbers_are_refused_on_both_ways() -> None:
    spec = TensorSpec("x", "FP32", (-1,))
    with pytest.raises(InvalidArgument, match="Send `tensors`"):
        to_tensors({"x": [0.0] * (MOST_NUMBERS + 1)}, [spec])
    data = bytes(4 * (MOST_NUMBERS + 1))
    with pytest.raises(InvalidArgument, match="Send `tensors`"):
        from_tensors([Tensor("x", "FP32", (MOST_NUMBERS + 1,), data)])
    with pytest.raises(InvalidArgument, match="2\\^53"):
        from_tensors([Tensor("x", "INT64", (1,), struct.pack("<q", 2**60))])


GOOD = Tensor("x", "FP32", (1, 2), bytes(8))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "tensors.tensors"),
        ([GOOD, GOOD], "tensors.tensors[1].name"),
        ([Tensor("y", "FP32", (1, 2), bytes(8))], "tensors.tensors[0].name"),
        ([Tensor("x", "FP64", (1, 2), bytes(16))], "tensors.tensors[0].datatype"),
        ([Tensor("x", "BYTES", (1, 2), bytes(8))], "tensors.tensors[0].datatype"),
        ([Tensor("x", "FP32", (2,), bytes(8))], "tensors.tensors[0].shape"),
        ([Tensor("x", "FP32", (1, 3), bytes(12))], "tensors.tensors[0].shape"),
        ([Tensor("x", "FP32", (-1, 2), b"")], "tensors.tensors[0].shape"),
        ([Tensor("x", "FP32", (1, 2), bytes(9))], "tensors.tensors[0].data"),
        ([Tensor("x", "FP32", (2**62, 2), bytes(8))], "tensors.tensors[0].data"),
    ],
)
def test_tensors_that_a_model_does_not_take(given: list[Tensor], field: str) -> None:
    with pytest.raises((InvalidArgument, MissingField)) as caught:
        check(given, [X])
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("shape", "data", "field"),
    [
        ((2,), joined([b"a", b""]), None),
        ((0,), b"", None),
        ((1,), joined([b"a", b""]), "tensors.tensors[0].data"),
        ((2,), b"\xff\xff\xff\xffa", "tensors.tensors[0].data"),
        ((2,), joined([b"a", b"b"])[:-1], "tensors.tensors[0].data"),
        ((1,), b"\0\0", "tensors.tensors[0].data"),
    ],
)
def test_byte_strings_fill_their_shape(
    shape: tuple[int, ...], data: bytes, field: str | None
) -> None:
    tensor = Tensor("x", "BYTES", shape, data)
    if field is None:
        check([tensor], [TEXTS])
        return
    with pytest.raises(InvalidArgument) as caught:
        check([tensor], [TEXTS])
    assert caught.value.field == field


def test_booleans_are_zero_or_one_and_dimensions_few() -> None:
    with pytest.raises(InvalidArgument, match="0 or 1"):
        check([Tensor("x", "BOOL", (), b"\x02")], [SCALAR])
    with pytest.raises(InvalidArgument, match="at most 32 dimensions"):
        check([Tensor("x", "FP32", (1,) * 100_000, bytes(4))], [TensorSpec("x", "FP32", None)])


def test_every_number_type_has_a_size() -> None:
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} | {"BF16": 2} == NUMBERS

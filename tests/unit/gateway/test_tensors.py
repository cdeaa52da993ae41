"""Arrays of JSON as tensors and back: the same numbers, or a 400 that names the number."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from penstock.inference.v1 import inference_service_pb2 as pb

from gateway.errors import ProblemError
from gateway.tensors import MOST_NUMBERS, in_a_row, outputs, to_tensors

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def spec(datatype: str, *shape: int, name: str = "x") -> pb.TensorSpec:
    return pb.TensorSpec(name=name, datatype=datatype, shape=shape)


def read(value: Any, *specs: pb.TensorSpec, batched: bool = False) -> list[pb.Tensor]:
    return list(to_tensors(json.dumps(value).encode(), specs, "input", batched=batched).tensors)


@given(st.data(), st.sampled_from(sorted(DTYPES)), SHAPES)
def test_there_and_back(data: st.DataObject, datatype: str, shape: tuple[int, ...]) -> None:
    dtype = DTYPES[datatype]
    values = data.draw(arrays.arrays(dtype, shape))
    if dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0).astype(dtype)
    # Nothing tells how long the arrays would be that an empty array doesn't hold.
    shape = shape[: shape.index(0) + 1] if 0 in shape else shape
    [found] = read({"x": values.tolist()}, spec(datatype, *(-1 for _ in shape)))
    assert (found.name, found.datatype, tuple(found.shape)) == ("x", datatype, shape)
    assert found.data == values.tobytes()
    back = np.array(json.loads(outputs([found], named=False)), dtype)
    assert back.tobytes() == values.tobytes()
    if shape and 0 not in shape:
        row = np.array(json.loads(in_a_row(found)), dtype)
        assert row.tobytes() == values.tobytes()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_bfloat16_is_the_nearest(numbers: list[float]) -> None:
    try:
        [tensor] = read(numbers, spec("BF16", -1))
    except ProblemError:
        assert max(map(abs, numbers)) > 3.38e38
        return
    for number, near in zip(numbers, json.loads(outputs([tensor], named=False)), strict=True):
        [bits] = struct.unpack("<I", struct.pack("<f", near))
        assert bits & 0xFFFF == 0
        assert abs(number - near) <= max(abs(number) * 2**-8, 2**-133)


def test_several_inputs_and_outputs() -> None:
    specs = (spec("FP32", -1, name="a"), spec("INT64", 2, name="b"))
    a, b = read({"b": [1, 2], "a": [0.5]}, *specs)
    assert (a.name, b.name) == ("a", "b")
    assert json.loads(outputs([a, b], named=False)) == {"a": [0.5], "b": [1, 2]}
    assert json.loads(outputs([b], named=True)) == {"b": [1, 2]}
    assert json.loads(outputs([b], named=False)) == [1, 2]


def test_a_batch_of_one() -> None:
    [found] = read([1, 2, 3], spec("FP32", -1, 3), batched=True)
    assert list(found.shape) == [1, 3]
    with pytest.raises(ProblemError):
        read([1, 2, 3], spec("FP32", -1, 3))


def test_any_number_of_dimensions_and_any_type() -> None:
    [found] = read([[[1, 2]]], pb.TensorSpec(name="x", any_rank=True))
    assert (found.datatype, list(found.shape)) == ("FP32", [1, 1, 2])


def test_what_is_no_number_is_null() -> None:
    data = struct.pack("<4f", float("nan"), float("inf"), float("-inf"), 1)
    tensor = pb.Tensor(name="x", datatype="FP32", shape=[2, 2], data=data)
    assert outputs([tensor], named=False) == b"[[null,null],[null,1.0]]"
    assert in_a_row(tensor) == b"[null,null,null,1.0]"


@pytest.mark.parametrize(
    ("value", "wanted", "param", "code"),
    [
        ({}, spec("FP32", -1), "input.x", "missing_required_parameter"),
        ({"x": [1], "y": [2]}, spec("FP32", -1), "input.y", "invalid_value"),
        ([[1]], spec("FP32", -1), "input", "invalid_value"),
        ([1, 2], spec("FP32", 3), "input", "invalid_value"),
        ([[1, 2], [3]], spec("FP32", -1, -1), "input", "invalid_value"),
        ([[1, 2], 3], spec("FP32", -1, -1), "input", "invalid_value"),
        ([[1, 2], [3, "4"]], spec("FP32", -1, -1), "input[1][1]", "invalid_type"),
        ([[1, 2], [True, 4]], spec("FP32", -1, -1), "input[1][0]", "invalid_type"),
        ([1, None], spec("FP32", -1), "input[1]", "invalid_type"),
        ([1, [2]], spec("FP32", -1), "input[1]", "invalid_type"),
        ({"x": {}}, spec("FP32"), "input.x", "invalid_type"),
        ([1, 2.0], spec("INT32", -1), "input[1]", "invalid_type"),
        ([1, 2**31], spec("INT32", -1), "input[1]", "invalid_value"),
        ([1, -(2**63) - 1], spec("INT64", -1), "input[1]", "invalid_value"),
        ([1, -1], spec("UINT8", -1), "input[1]", "invalid_value"),
        ([1, 65520], spec("FP16", -1), "input[1]", "invalid_value"),
        ([1, 1e39], spec("FP32", -1), "input[1]", "invalid_value"),
        ([1, 10**400], spec("FP64", -1), "input[1]", "invalid_value"),
        ([1, 3.4e38], spec("BF16", -1), "input[1]", "invalid_value"),
        ([1], spec("BOOL", -1), "input[0]", "invalid_type"),
        (["a", 1], spec("BYTES", -1), "input[1]", "invalid_type"),
        ([["a"], [None]], spec("BYTES", -1, 1), "input[1][0]", "invalid_type"),
    ],
)
def test_what_is_refused(value: Any, wanted: pb.TensorSpec, param: str, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        read(value, wanted)
    problem = caught.value.problem
    assert (problem.status, problem.param, problem.code) == (400, param, code)
    assert f"'{param}'" in problem.message


@pytest.mark.parametrize(
    "data",
    [
        b"[1e999]",
        b"[" * 50_000 + b"]" * 50_000,
        b"[" + b"[" * 40 + b"]" * 40 + b"]",
        b"[0" + b",0" * (MOST_NUMBERS + 1) + b"]",
        b"[1, 2",
        b'["\xff"]',
    ],
)
def test_horrors_are_refused(data: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        to_tensors(data, [pb.TensorSpec(name="x", datatype="FP32", any_rank=True)], "input")
    assert (caught.value.problem.status, caught.value.problem.param) == (400, "input")


def test_one_array_is_not_enough_for_several_inputs() -> None:
    with pytest.raises(ProblemError, match="an array for each of a, b"):
        read([1], spec("FP32", -1, name="a"), spec("FP32", -1, name="b"))


def test_number_types_without_a_form_in_json() -> None:
    tensor = pb.Tensor(name="x", datatype="FP8", shape=[0])
    for render in (in_a_row, lambda tensor: outputs([tensor], named=False)):
        with pytest.raises(ProblemError) as caught:
            render(tensor)
        assert caught.value.problem.reason == "UNIMPLEMENTED"
    with pytest.raises(ProblemError):
        read(["x"], spec("FP8", -1))


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1, max_size=4))
def test_texts_there_and_back(texts: list[list[str]]) -> None:
    [found] = read(texts, spec("BYTES", -1, -1))
    assert list(found.shape) == [len(texts), 2]
    assert json.loads(outputs([found], named=False)) == texts
    assert json.loads(in_a_row(found)) == [text for row in texts for text in row]


def test_bytes_that_are_no_text_have_no_form_in_json() -> None:
    tensor = pb.Tensor(name="x", datatype="BYTES", shape=[1], data=b"\1\0\0\0\xff")
    with pytest.raises(ProblemError, match="UTF-8"):
        in_a_row(tensor)


def test_answers_too_large_for_json() -> None:
    tensor = pb.Tensor(name="x", datatype="INT8", shape=[MOST_NUMBERS], data=bytes(MOST_NUMBERS))
    assert outputs([tensor], named=False).count(b",") == MOST_NUMBERS - 1
    small = pb.Tensor(name="y", datatype="INT8", shape=[], data=b"\0")
    tensor_above = pb.Tensor(name="x", datatype="INT8", shape=[MOST_NUMBERS + 1])
    for render in (
        lambda: outputs([tensor, small], named=False),
        lambda: in_a_row(tensor_above),
    ):
        with pytest.raises(ProblemError) as caught:
            render()
        assert caught.value.problem.status == 413

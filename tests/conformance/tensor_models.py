"""Small tensor models, written as ONNX files without a library for it."""

from __future__ import annotations

import itertools
import math
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT64, BOOL, STRING, BFLOAT16, FLOAT16 = 1, 7, 9, 8, 16, 10
"""ONNX's numbers for number types."""

Value = tuple[str, int, Sequence[int | str]]
"""Name, number type, and sizes: a text is a size that is open."""

_CONVERT = """
import sys
sys.modules["openvino_telemetry"] = None
import openvino
openvino.save_model(openvino.Core().read_model(sys.argv[1]), sys.argv[2], compress_to_fp16=False)
"""


def field(number: int, value: int | bytes | str) -> bytes:
    """A field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def value_info(value: Value) -> bytes:
    name, datatype, sizes = value
    dims = (field(2, one) if isinstance(one, str) else field(1, one) for one in sizes)
    shape = b"".join(field(1, dim) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, datatype) + field(2, shape)))


def node(operation: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    names = b"".join(field(1, name) for name in inputs)
    more = b"".join(field(5, one) for one in attributes)
    return names + field(2, output) + field(4, operation) + more


def integer(name: str, value: int) -> bytes:
    """An attribute of a node."""
    return field(1, name) + field(3, value) + field(20, 2)


def floats(name: str, sizes: Sequence[int], values: Sequence[float]) -> bytes:
    """A constant."""
    dims = b"".join(field(1, size) for size in sizes)
    data = struct.pack(f"<{len(values)}f", *values)
    return dims + field(2, FLOAT) + field(8, name) + field(9, data)


def elsewhere(name: str, sizes: Sequence[int], location: str) -> bytes:
    """A constant of 32-bit floats whose numbers are in another file."""
    entries = {"location": location, "offset": "0", "length": str(4 * math.prod(sizes))}
    told = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
    dims = b"".join(field(1, size) for size in sizes)
    return dims + field(2, FLOAT) + field(8, name) + told + field(14, 1)


def onnx(
    nodes: Sequence[bytes],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Sequence[bytes] = (),
) -> bytes:
    graph = b"".join(field(1, one) for one in nodes) + field(2, "graph")
    graph += b"".join(field(5, one) for one in constants)
    graph += b"".join(field(11, value_info(one)) for one in inputs)
    graph += b"".join(field(12, value_info(one)) for one in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def save(folder: Path, model: bytes, name: str = "model.onnx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model)
    return folder


def linear(weights: bytes = b"") -> bytes:
    """`y` = `x` times the matrix of 0 to 5 with three rows; `x` has any number of rows."""
    return onnx(
        [node("MatMul", ["x", "w"], "y")],
        [("x", FLOAT, ["n", 3])],
        [("y", FLOAT, ["n", 2])],
        [weights or floats("w", [3, 2], range(6))],
    )


def linear_with_file(location: str) -> bytes:
    """The same, with its matrix in a file."""
    return linear(elsewhere("w", [3, 2], location))


def identity(datatype: int = FLOAT) -> bytes:
    """`output` is `input`, a matrix."""
    value = ["rows", "columns"]
    return onnx(
        [node("Identity", ["input"], "output")],
        [("input", datatype, value)],
        [("output", datatype, value)],
    )


def two_by_two() -> bytes:
    """`sum` and `product` of `a` and `b`."""
    return onnx(
        [node("Add", ["a", "b"], "sum"), node("Mul", ["a", "b"], "product")],
        [("a", FLOAT, ["n"]), ("b", FLOAT, ["m"])],
        [("sum", FLOAT, ["k"]), ("product", FLOAT, ["k"])],
    )


def slow(size: int = 2048, count: int = 300) -> bytes:
    """Takes far longer than any test waits."""
    names = ["x", *(f"h{place}" for place in range(count - 1)), "y"]
    nodes = [node("MatMul", [a, "x"], b) for a, b in itertools.pairwise(names)]
    return onnx(nodes, [("x", FLOAT, [size, size])], [("y", FLOAT, [size, size])])


def save_ir(folder: Path, model: bytes) -> Path:
    """Saves a model in OpenVINO's own format."""
    source = save(folder / "source", model) / "model.onnx"
    command = [sys.executable, "-c", _CONVERT, str(source), str(folder / "model.xml")]
    subprocess.run(command, check=True, timeout=100)
    return folder

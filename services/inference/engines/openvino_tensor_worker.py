"""The process that owns a model of OpenVINO's or ONNX's format. Takes the descriptor of a socket.

A process of its own: what a model's file does to OpenVINO happens to nobody else, and its memory
is given back when the model is unloaded. A file describes operations that OpenVINO knows, and no
code is loaded with it.

It runs one inference after the other, and hears meanwhile whether it is still wanted.
"""

import logging
import time
from typing import Any

import msgspec
import numpy as np
import openvino

from services.inference.engines.openvino_line import Line, LineClosedError, serve_line
from services.inference.engines.openvino_messages import Broken
from services.inference.engines.openvino_tensor_messages import (
    Array,
    Form,
    Load,
    Loaded,
    Ran,
    Refused,
    Run,
    Stop,
    ToTensorWorker,
)

MOST_OUTPUT_BYTES = 60 * 1024 * 1024
"""A message takes little more."""
_POLL_MS = 20
"""How long a run goes on unheard after it was stopped."""

DATATYPES = {
    "boolean": "BOOL",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "f16": "FP16",
    "bf16": "BF16",
    "f32": "FP32",
    "f64": "FP64",
}
"""Number types, by OpenVINO's names."""

_WIDE = frozenset({"INT64", "UINT64", "UINT32"})
"""Number types that OpenVINO computes with in 32 bits on processors, without a word."""
_LEAST, _MOST = -(2**31), 2**31 - 1

_log = logging.getLogger(__name__)

ov: Any = openvino
_TYPES = {datatype: getattr(ov.Type, name) for name, datatype in DATATYPES.items()}


class UnservedModelError(Exception):
    """The model is one that can't be served; the message says why."""


class UnfitError(Exception):
    """An input, whose name this holds, has a number that OpenVINO would change."""


class Model:
    """A compiled model."""

    def __init__(self, load: Load) -> None:
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": load.precision}
        if load.threads:
            options["INFERENCE_NUM_THREADS"] = load.threads
        core = ov.Core()
        model = core.read_model(load.file)
        self.inputs = [_form(port, f"input_{at}") for at, port in enumerate(model.inputs)]
        self.outputs = [_form(port, f"output_{at}") for at, port in enumerate(model.outputs)]
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(self, inputs: list[Array], wanted: "Wanted") -> Ran | Refused:
        """Runs it once, unless it is stopped."""
        given = {array.name: array for array in inputs}
        begun = time.perf_counter()
        self._request.reset_state()  # what a model remembers is not another caller's business
        for at, form in enumerate(self.inputs):
            self._request.set_input_tensor(at, _tensor(given[form.name]))
        self._request.start_async()
        while not self._request.wait_for(_POLL_MS):
            if not wanted():
                self._request.cancel()
                break
        self._request.wait()  # raises what the run failed with
        seconds = time.perf_counter() - begun
        tensors = [self._request.get_output_tensor(at) for at in range(len(self.outputs))]
        size = sum(int(tensor.byte_size) for tensor in tensors)
        if size > MOST_OUTPUT_BYTES:
            return Refused("its outputs are too large", too_large=size)
        forms = zip(self.outputs, tensors, strict=True)
        return Ran([_array(form, tensor) for form, tensor in forms], seconds)


class Wanted:
    """Tells whether the run of a key is still wanted; hears what comes on the line meanwhile."""

    def __init__(self, line: Line, commands: "msgspec.msgpack.Decoder[ToTensorWorker]") -> None:
        self._line = line
        self._commands = commands
        self.key = 0

    def __call__(self) -> bool:
        """Looks for a stop, or for the end of the line, after which nobody waits any more."""
        try:
            while (body := self._line.receive(wait=False)) is not None:
                match self._commands.decode(body):
                    case Stop(key) if key == self.key:
                        return False
                    case _:
                        pass  # a stop that came too late
        except LineClosedError:
            return False
        return True


def _form(port: Any, otherwise: str) -> Form:
    kind = port.get_element_type().get_type_name()
    if kind not in DATATYPES:
        raise UnservedModelError(
            f"it has an input or output of the type {kind}, which is not served"
        )
    shape = port.get_partial_shape()
    sizes = None
    if shape.rank.is_static:
        sizes = [int(size.get_length()) if size.is_static else -1 for size in shape]
    name = port.get_any_name() if port.get_names() else otherwise
    return Form(name, DATATYPES[kind], sizes)


def _tensor(array: Array) -> Any:
    tensor = ov.Tensor(_TYPES[array.datatype], ov.Shape(array.shape))
    # NumPy has no bfloat16: OpenVINO shows its bits as a float16's.
    values = np.frombuffer(array.data, tensor.data.dtype).reshape(array.shape)
    if (
        array.datatype in _WIDE
        and values.size
        and not _LEAST <= values.min() <= values.max() <= _MOST
    ):
        raise UnfitError(array.name)
    tensor.data[...] = values
    return tensor


def _array(form: Form, tensor: Any) -> Array:
    # Its type is what the model says, also where the declared one left it open.
    datatype = DATATYPES[tensor.get_element_type().get_type_name()]
    return Array(form.name, datatype, [int(size) for size in tensor.shape], tensor.data.tobytes())


def run(line: Line) -> None:
    """Loads what the first message says, then runs what is asked until the line is closed."""
    load = msgspec.msgpack.decode(line.receive(wait=True) or b"", type=Load)
    try:
        model = Model(load)
    except UnservedModelError as error:
        line.send(Broken(str(error)))
        return
    except Exception:
        _log.exception("OpenVINO can't load %s", load.file)
        line.send(Broken("the log of the serving process says why"))
        return
    line.send(Loaded(model.inputs, model.outputs, ov.__version__))
    commands: msgspec.msgpack.Decoder[ToTensorWorker] = msgspec.msgpack.Decoder(ToTensorWorker)
    wanted = Wanted(line, commands)
    while True:
        command = commands.decode(line.receive(wait=True) or b"")
        if isinstance(command, Run):
            wanted.key = command.key
            try:
                answer = model.run(command.inputs, wanted)
            except UnfitError as error:
                answer = Refused("a number is too large", unfit=str(error))
            except Exception as error:
                answer = Refused(str(error))
            line.send(answer)


def main(descriptor: str) -> int:
    """Runs until the line is closed; returns the exit status."""
    return serve_line(descriptor, run)

"""Small tensor models for Triton's python backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from services.settings import TritonSettings
from services.tritonserver.endpoints import Triton

Form = tuple[str, str, Sequence[int]]
"""Name, type in Triton's configuration, and sizes."""

_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        def given(name):
            tensor = pb_utils.get_input_tensor_by_name(request, name)
            return None if tensor is None else tensor.as_numpy()

        outputs = dict(self.compute(given))
        if "error" in outputs:
            return pb_utils.InferenceResponse(error=outputs["error"])
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in outputs.items()]
        )

    def compute(self, given):
"""

IDENTITY = "yield 'output', given('input')"


def form(kind: str, form: Form) -> str:
    name, datatype, sizes = form
    return f'{kind} [{{ name: "{name}" data_type: {datatype} dims: {list(sizes)} }}]\n'


def model(
    compute: str, inputs: Sequence[Form], outputs: Sequence[Form], more: str = ""
) -> Mapping[str, str]:
    """A model's files: `compute` are lines of Python that yield names and values of outputs, or
    `error` and a TritonError."""
    body = "".join(f"        {line}\n" for line in compute.splitlines())
    config = 'backend: "python"\ninstance_group [{ kind: KIND_CPU }]\n' + more
    config += "".join(form("input", one) for one in inputs)
    config += "".join(form("output", one) for one in outputs)
    return {"config.pbtxt": config, "1/model.py": _MODEL + body}


def identity(datatype: str = "TYPE_FP32", sizes: Sequence[int] = (-1, -1)) -> Mapping[str, str]:
    """`output` is `input`."""
    return model(IDENTITY, [("input", datatype, sizes)], [("output", datatype, sizes)])


@asynccontextmanager
async def closing_triton(settings: TritonSettings) -> AsyncIterator[Triton]:
    """The endpoints, closed at the end."""
    triton = Triton(settings)
    try:
        yield triton
    finally:
        await triton.close()

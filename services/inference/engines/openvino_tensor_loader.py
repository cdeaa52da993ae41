"""Loads models of OpenVINO's and ONNX's formats: files of data, with no code in them."""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from services.errors import FailedPrecondition
from services.inference.engines.openvino_tensor_messages import Form, Load
from services.inference.engines.openvino_tensors import OpenVinoTensors, open_link
from services.inference.tensor_engine import TensorEngineInfo, TensorModelSpec, TensorSpec

_SUFFIXES = (".xml", ".onnx")
_NAMES = ("model.xml", "model.onnx")
"""What a model's file is called where its folder has several."""
_PRECISIONS = {
    "auto": ("f32", "float32"),
    "float32": ("f32", "float32"),
    "bfloat16": ("bf16", "bfloat16"),
    "float16": ("f16", "float16"),
}


class OpenVinoTensorLoader:
    """Makes tensor engines."""

    def __init__(self, *, queue_limit: int, threads: int = 0) -> None:
        """Takes how many inferences of a model may wait, and the threads of one (0: OpenVINO's
        default)."""
        if find_spec("openvino") is None:
            raise FailedPrecondition(
                "Tensor models need OpenVINO: install the extra `openvino` on the serving machine."
            )
        self._queue_limit = queue_limit
        self._threads = threads

    async def load(
        self, spec: TensorModelSpec, progress: Callable[[float], None]
    ) -> OpenVinoTensors:
        """Starts a process that has loaded the model."""
        if spec.dtype not in _PRECISIONS:
            raise FailedPrecondition(
                f"Tensor models can't be loaded as {spec.dtype}: take one of "
                f"{', '.join(_PRECISIONS)}, or save the model as {spec.dtype}."
            )
        precision, dtype = _PRECISIONS[spec.dtype]
        file = await asyncio.to_thread(_file, spec.source)
        progress(0.1)
        load = Load(str(file), precision, self._threads)
        link, loaded = await open_link(load)
        progress(1.0)
        info = TensorEngineInfo(
            name="openvino",
            device="cpu",
            dtype=dtype,
            build=f"openvino-{loaded.build}",
            inputs=tuple(_spec(form) for form in loaded.inputs),
            outputs=tuple(_spec(form) for form in loaded.outputs),
        )
        return OpenVinoTensors(info, load, link, queue_limit=self._queue_limit)


def _file(folder: Path) -> Path:
    """Finds the model in its folder."""
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(found) > 1:
        found = [path for name in _NAMES for path in found if path.name == name][:1]
    if not found or not found[0].is_file():
        raise FailedPrecondition(
            "The folder holds no tensor model: put one `.onnx` file into it, or `.xml` and `.bin` "
            "of OpenVINO. Where there are several, name one `model.onnx` or `model.xml`."
        )
    [file] = found
    if file.suffix == ".xml" and not file.with_suffix(".bin").is_file():
        raise FailedPrecondition(
            f"The folder holds {file.name} without {file.stem}.bin, which has its weights."
        )
    return file


def _spec(form: Form) -> TensorSpec:
    return TensorSpec(form.name, form.datatype, None if form.shape is None else tuple(form.shape))

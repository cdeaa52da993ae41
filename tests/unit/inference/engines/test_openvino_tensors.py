"""Tensor models on OpenVINO: what their files say they take, and what they compute."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from services.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    QueueFull,
    Unavailable,
)
from services.inference.engines.openvino_tensor_loader import OpenVinoTensorLoader
from services.inference.engines.openvino_tensors import OpenVinoTensors
from services.inference.tensor_engine import Tensor, TensorModelSpec, TensorSpec
from tests.conformance import tensor_models as models

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra `openvino` is not installed"
)


@contextlib.asynccontextmanager
async def loaded(
    folder: Path, *, queue_limit: int = 4, dtype: str = "auto"
) -> AsyncIterator[OpenVinoTensors]:
    loader = OpenVinoTensorLoader(queue_limit=queue_limit, threads=1)
    engine = await loader.load(TensorModelSpec("m", folder, dtype), lambda share: None)
    try:
        yield engine
    finally:
        await engine.close()


def tensor(name: str, shape: tuple[int, ...], *values: float) -> Tensor:
    return Tensor(name, "FP32", shape, struct.pack(f"<{len(values)}f", *values))


def numbers(found: Tensor) -> list[float]:
    return list(struct.unpack(f"<{len(found.data) // 4}f", found.data))


@pytest.mark.parametrize("save", [models.save, models.save_ir])
async def test_a_model_tells_its_forms_and_computes(tmp_path: Path, save: object) -> None:
    async with loaded(save(tmp_path / "m", models.linear())) as engine:  # type: ignore[operator]
        info = engine.info
        assert info.inputs == (TensorSpec("x", "FP32", (-1, 3)),)
        assert info.outputs == (TensorSpec("y", "FP32", (-1, 2)),)
        assert (info.name, info.device, info.dtype) == ("openvino", "cpu", "float32")
        assert info.build.startswith("openvino-20")
        assert engine.status().completed_24h == 0
        await engine.probe()
        assert engine.status().completed_24h == 0, "probes are nobody's requests"
        answer = await engine.infer([tensor("x", (2, 3), 1, 1, 1, 0, 1, 2)])
        [found] = answer.tensors
        assert (found.name, found.datatype, found.shape) == ("y", "FP32", (2, 2))
        assert numbers(found) == [6, 9, 10, 13]
        assert answer.latency_s > 0
        status = engine.status()
        assert (status.running, status.waiting, status.completed_24h) == (0, 0, 1)
        assert status.mean_latency_s == pytest.approx(answer.latency_s)


async def test_several_inputs_by_name(tmp_path: Path) -> None:
    async with loaded(models.save(tmp_path, models.two_by_two())) as engine:
        inputs = [tensor("b", (2,), 3, 4), tensor("a", (2,), 1, 2)]
        found = {one.name: numbers(one) for one in (await engine.infer(inputs)).tensors}
        assert found == {"sum": [4, 6], "product": [3, 8]}
        with pytest.raises(InvalidArgument) as caught:
            await engine.infer([tensor("a", (2,), 1, 2), tensor("b", (3,), 1, 2, 3)])
        assert caught.value.field == "tensors"
        assert "openvino" not in caught.value.message.lower()
        found = {one.name: numbers(one) for one in (await engine.infer(inputs)).tensors}
        assert found["sum"] == [4, 6], "a refused inference leaves nothing behind"


@pytest.mark.parametrize(
    ("number", "datatype", "values"),
    [
        (models.FLOAT16, "FP16", np.array([[1.5, -2.0, 65504]], "<f2")),
        (models.INT64, "INT64", np.array([[2**31 - 1, -(2**31), 0]], "<i8")),
        (models.BOOL, "BOOL", np.array([[True, False, True]])),
        (models.BFLOAT16, "BF16", np.array([[0x3F80, 0xC000, 0x7F7F]], "<u2")),
    ],
)
async def test_number_types(tmp_path: Path, number: int, datatype: str, values: np.ndarray) -> None:
    async with loaded(models.save(tmp_path, models.identity(number))) as engine:
        assert engine.info.inputs[0].datatype == datatype
        given = Tensor("input", datatype, values.shape, values.tobytes())
        [found] = (await engine.infer([given])).tensors
        assert (found.shape, found.data) == (given.shape, given.data)


async def test_whole_numbers_that_openvino_would_change_are_refused(tmp_path: Path) -> None:
    async with loaded(models.save(tmp_path, models.identity(models.INT64))) as engine:
        for number in (2**31, -(2**31) - 1, 2**62):
            given = Tensor("input", "INT64", (1, 2), struct.pack("<2q", 1, number))
            with pytest.raises(InvalidArgument, match="the input `input` is beyond"):
                await engine.infer([given])


async def test_tensors_without_numbers(tmp_path: Path) -> None:
    async with loaded(models.save(tmp_path, models.identity())) as engine:
        [found] = (await engine.infer([Tensor("input", "FP32", (0, 5), b"")])).tensors
        assert (found.shape, found.data) == ((0, 5), b"")


async def test_a_line_with_a_limit_and_a_deadline(tmp_path: Path) -> None:
    model = models.slow()
    given = [tensor("x", (2048, 2048), *([0.0] * 2048**2))]
    loop = asyncio.get_running_loop()
    async with loaded(models.save(tmp_path, model), queue_limit=1) as engine:
        first = asyncio.create_task(engine.infer(given))
        await until(lambda: engine.status().running == 1)
        second = asyncio.create_task(engine.infer(given, deadline=loop.time() + 0.05))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull) as full:
            await engine.infer(given)
        assert full.value.retry_after_s is not None
        with pytest.raises(DeadlineExceeded):
            await second
        assert engine.status().waiting == 0
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await until(lambda: engine.status().running == 0)
        third = asyncio.create_task(engine.infer(given))
        await until(lambda: engine.status().running == 1)
        await engine.close()
        with pytest.raises(Unavailable):
            await third
        with pytest.raises(Unavailable):
            await engine.infer(given)


async def test_a_process_that_dies_is_started_anew(tmp_path: Path) -> None:
    async with loaded(models.save(tmp_path / "slow", models.slow())) as engine:
        inference = asyncio.create_task(
            engine.infer([tensor("x", (2048, 2048), *([0.0] * 2048**2))])
        )
        await until(lambda: engine.status().running == 1)
        os.kill(engine._link._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        with pytest.raises(Unavailable):
            await inference
    async with loaded(models.save(tmp_path / "linear", models.linear())) as engine:
        pid = engine._link._process.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGKILL)
        given = [tensor("x", (1, 3), 1, 1, 1)]
        with contextlib.suppress(Unavailable):  # it may be noticed before, or by this one
            await engine.infer(given)
        assert numbers((await engine.infer(given)).tensors[0]) == [6, 9]
        assert engine._link._process.pid != pid  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "dtype", "says"),
    [
        ({}, "auto", "holds no tensor model"),
        ({"a.onnx": models.linear(), "b.onnx": models.linear()}, "auto", "name one"),
        ({"model.xml": b"<net/>"}, "auto", "without model.bin"),
        ({"model.onnx": b"nonsense"}, "auto", "can't load"),
        ({"model.xml": b"<net/>", "model.bin": b""}, "auto", "can't load"),
        ({"model.onnx": models.identity(models.STRING)}, "auto", "the type string"),
        ({"model.onnx": models.linear()}, "int8", "can't be loaded as int8"),
    ],
)
async def test_what_is_no_model_is_refused(
    tmp_path: Path, files: dict[str, bytes], dtype: str, says: str
) -> None:
    for name, data in files.items():
        models.save(tmp_path, data, name)
    with pytest.raises(FailedPrecondition, match=says) as caught:
        async with loaded(tmp_path, dtype=dtype):
            pass
    assert str(tmp_path) not in caught.value.message


async def test_weights_may_be_in_another_file_of_the_folder_alone(tmp_path: Path) -> None:
    numbers_of_w = struct.pack("<6f", *range(6))
    folder = tmp_path / "model"
    models.save(folder, numbers_of_w, "weights.bin")
    models.save(tmp_path, numbers_of_w, "outside.bin")
    async with loaded(models.save(folder, models.linear_with_file("weights.bin"))) as engine:
        answer = await engine.infer([tensor("x", (1, 3), 1, 1, 1)])
        assert numbers(answer.tensors[0]) == [6, 9]
    for location in ("../outside.bin", str(tmp_path / "outside.bin")):
        models.save(folder, models.linear_with_file(location))
        with pytest.raises(FailedPrecondition, match="can't load"):
            async with loaded(folder):
                pass


async def test_one_of_several_files_by_its_name(tmp_path: Path) -> None:
    models.save(tmp_path, models.identity(), "other.onnx")
    async with loaded(models.save(tmp_path, models.linear())) as engine:
        assert engine.info.inputs[0].name == "x"


async def until(condition: object) -> None:
    async with asyncio.timeout(100):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - any condition will do
            await asyncio.sleep(0.005)

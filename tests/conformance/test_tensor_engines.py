"""One suite for every tensor engine: `output` is `input`, a matrix of 32-bit floats."""

from __future__ import annotations

import asyncio
import importlib.util
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.errors import Unavailable
from services.inference.engines.echo_tensors import EchoTensorLoader
from services.inference.engines.openvino_tensor_loader import OpenVinoTensorLoader
from services.inference.engines.triton_tensors import TritonTensorLoader
from services.inference.tensor_engine import (
    DATATYPES,
    Tensor,
    TensorEngine,
    TensorEngineLoader,
    TensorModelSpec,
)
from services.inference.tensor_inference import check
from services.settings import TritonSettings
from tests.conformance import tensor_models, triton_models
from tests.conformance.triton_models import closing_triton
from tests.triton_server import TritonServer


@asynccontextmanager
async def loader_of(name: str, request: pytest.FixtureRequest) -> AsyncIterator[TensorEngineLoader]:
    if name == "echo":
        yield EchoTensorLoader()
    elif name == "triton":
        server: TritonServer = request.getfixturevalue("triton")
        server.add("m", triton_models.identity())
        settings = TritonSettings(endpoints=(server.address,))
        async with closing_triton(settings) as triton:
            yield TritonTensorLoader(triton, queue_limit=8)
    elif importlib.util.find_spec("openvino") is None:
        pytest.skip("the extra `openvino` is not installed")
    else:
        yield OpenVinoTensorLoader(queue_limit=8, threads=1)


@pytest.fixture(params=["echo", "openvino", "triton"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TensorEngine]:
    folder = tensor_models.save(tmp_path, tensor_models.identity())
    shares: list[float] = []
    async with loader_of(request.param, request) as loader:
        engine = await loader.load(TensorModelSpec("m", folder), shares.append)
        assert shares == sorted(shares)
        assert shares[-1] == 1
        yield engine
        await engine.close()


def matrix(rows: int, columns: int, start: float = 0) -> Tensor:
    numbers = [start + number for number in range(rows * columns)]
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    return Tensor("input", "FP32", (rows, columns), data)


async def test_it_says_what_it_is(engine: TensorEngine) -> None:
    info = engine.info
    assert info.name
    assert info.device
    assert info.dtype
    assert info.build
    assert [(spec.name, spec.datatype) for spec in info.inputs] == [("input", "FP32")]
    assert [(spec.name, spec.datatype) for spec in info.outputs] == [("output", "FP32")]
    assert {spec.datatype for spec in (*info.inputs, *info.outputs)} <= DATATYPES
    check([matrix(2, 3)], info.inputs)


async def test_it_answers_each_with_its_own(engine: TensorEngine) -> None:
    given = [matrix(rows, 5, start=rows) for rows in range(6)]
    answers = await asyncio.gather(*(engine.infer([one]) for one in given))
    for one, answer in zip(given, answers, strict=True):
        [found] = answer.tensors
        assert (found.name, found.datatype) == ("output", "FP32")
        assert (found.shape, found.data) == (one.shape, one.data)
        assert answer.latency_s >= 0


async def test_it_counts_what_it_did(engine: TensorEngine) -> None:
    await engine.probe()
    before = engine.status()
    assert (before.running, before.waiting, before.completed_24h) == (0, 0, 0)
    assert before.mean_latency_s is None
    for _ in range(3):
        await engine.infer([matrix(1, 1)])
    after = engine.status()
    assert (after.running, after.waiting, after.completed_24h) == (0, 0, 3)
    assert after.mean_latency_s is not None


async def test_a_deadline_that_is_far_changes_nothing(engine: TensorEngine) -> None:
    deadline = asyncio.get_running_loop().time() + 1000
    [found] = (await engine.infer([matrix(2, 2)], deadline=deadline)).tensors
    assert found.data == matrix(2, 2).data


async def test_once_closed_it_is_away(engine: TensorEngine) -> None:
    await engine.close()
    with pytest.raises(Unavailable):
        await engine.infer([matrix(1, 1)])
    with pytest.raises(Unavailable):
        await engine.probe()
    await engine.close()

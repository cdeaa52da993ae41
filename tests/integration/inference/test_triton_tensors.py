"""Tensor models on a real Triton: what they are is read from it, and what it says is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import pytest_asyncio

from services.errors import (
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    QueueFull,
    Unavailable,
)
from services.inference.byte_strings import joined
from services.inference.engines.triton_tensors import TritonTensorLoader, TritonTensors
from services.inference.tensor_engine import (
    DATATYPES,
    Tensor,
    TensorModelSpec,
    TensorSpec,
)
from services.settings import TritonSettings
from services.tritonserver.endpoints import Triton
from tests.conformance import triton_models
from tests.conformance.triton_models import closing_triton
from tests.triton_server import TritonServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

TYPES = {kind: f"TYPE_{'STRING' if kind == 'BYTES' else kind}" for kind in sorted(DATATYPES)}
EVERY = """
for name in NAMES:
    tensor = pb_utils.get_input_tensor_by_name(request, "in_" + name)
    if tensor is not None and name == "BF16":
        outputs.append(pb_utils.Tensor.from_dlpack("out_" + name, tensor))
    elif tensor is not None:
        outputs.append(pb_utils.Tensor("out_" + name, tensor.as_numpy()))
"""
MOODY = """
import time
if given('input').size and given('input')[0] == 1:
    raise ValueError("a secret of the model")
if given('input').size and given('input')[0] == 2:
    raise pb_utils.TritonModelException("no")
if given('input').size and given('input')[0] == 4:
    yield 'error', pb_utils.TritonError("a secret", pb_utils.TritonError.INVALID_ARG)
    return
if given('input').size and given('input')[0] == 3:
    time.sleep(1.5)
yield 'output', given('input')
"""
ONE = ("TYPE_FP32", (-1,))


def every() -> dict[str, str]:
    """Gives what it is given, of any type; all inputs are optional."""
    files = dict(
        triton_models.model(
            triton_models.IDENTITY,
            [(f"in_{name}", kind, (-1, 2)) for name, kind in TYPES.items()],
            [(f"out_{name}", kind, (-1, 2)) for name, kind in TYPES.items()],
        )
    )
    files["config.pbtxt"] = files["config.pbtxt"].replace(
        "input [{ name", "input [{ optional: true name"
    )
    body = EVERY.replace("NAMES", repr(list(TYPES))).replace("\n", "\n            ")
    files["1/model.py"] = f"""
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            outputs = []
            {body}
            answers.append(pb_utils.InferenceResponse(outputs))
        return answers
"""
    return files


MODELS = {
    "every": every(),
    "rows": triton_models.model(
        "yield 'sum', given('a') + given('b')",
        [("a", "TYPE_INT32", (2,)), ("b", "TYPE_INT32", (2,))],
        [("sum", "TYPE_INT32", (2,))],
        "max_batch_size: 4\ndynamic_batching { max_queue_delay_microseconds: 1000 }\n",
    ),
    "moody": triton_models.model(MOODY, [("input", *ONE)], [("output", *ONE)]),
    "streaming": triton_models.model(
        triton_models.IDENTITY,
        [("input", *ONE)],
        [("output", *ONE)],
        "model_transaction_policy { decoupled: true }\n",
    ),
    "remembering": triton_models.model(
        triton_models.IDENTITY,
        [("input", *ONE)],
        [("output", *ONE)],
        "max_batch_size: 1\nsequence_batching { max_sequence_idle_microseconds: 1000000 }\n",
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(triton: TritonServer) -> AsyncIterator[Triton]:
    for name, files in MODELS.items():
        triton.add(f"tensors-{name}", files)
    async with closing_triton(TritonSettings(endpoints=(triton.address,))) as there:
        yield there


async def load(
    there: Triton, name: str, queue_limit: int = 8, dtype: str = "auto"
) -> TritonTensors:
    loader = TritonTensorLoader(there, queue_limit=queue_limit)
    return await loader.load(TensorModelSpec(f"tensors-{name}", Path(), dtype), lambda _: None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(there: Triton) -> AsyncIterator[dict[str, TritonTensors]]:
    found = {name: await load(there, name, 0) for name in ("every", "rows", "moody")}
    yield found
    for engine in found.values():
        await engine.close()


def floats(*numbers: float) -> Tensor:
    return Tensor("input", "FP32", (len(numbers),), np.array(numbers, "<f4").tobytes())


def ints(name: str, rows: int, columns: int = 2) -> Tensor:
    array = np.arange(rows * columns, dtype="<i4")
    return Tensor(name, "INT32", (rows, columns), array.tobytes())


async def test_what_they_are_is_read_from_triton(engines: dict[str, TritonTensors]) -> None:
    info = engines["rows"].info
    assert (info.name, info.device, info.build) == ("triton", "cpu", "triton-python")
    assert info.inputs == (
        TensorSpec("a", "INT32", (-1, 2)),
        TensorSpec("b", "INT32", (-1, 2)),
    )
    assert info.outputs == (TensorSpec("sum", "INT32", (-1, 2)),)
    optional = engines["every"].info.inputs
    assert {spec.datatype for spec in optional} == DATATYPES
    assert all(spec.optional and spec.shape == (-1, 2) for spec in optional)


@pytest.mark.parametrize("datatype", TYPES)
async def test_every_type_there_and_back(engines: dict[str, TritonTensors], datatype: str) -> None:
    if datatype == "BYTES":
        data = joined([b"", b"\xff\0", "ü".encode(), b"x" * 300])
    elif datatype == "BF16":
        data = np.array([1, -2.5, 3, 0], ml_dtypes.bfloat16).tobytes()
    else:
        kind = datatype.lower().replace("fp", "float")
        data = np.array([1, 0, 3, 100]).astype(kind).tobytes()
    given = Tensor(f"in_{datatype}", datatype, (2, 2), data)
    [found] = (await engines["every"].infer([given])).tensors
    assert found == Tensor(f"out_{datatype}", datatype, (2, 2), data)


async def test_batches_within_their_limit(engines: dict[str, TritonTensors]) -> None:
    rows = engines["rows"]
    answers = await asyncio.gather(
        *(rows.infer([ints("b", size), ints("a", size)]) for size in (1, 2, 3, 4))
    )
    for size, answer in zip((1, 2, 3, 4), answers, strict=True):
        [found] = answer.tensors
        assert found.shape == (size, 2)
        assert found.data == (2 * np.arange(2 * size, dtype="<i4")).tobytes()
    for sizes in ((5, 5), (0, 0), (1, 2)):
        with pytest.raises(InvalidArgument) as caught:
            await rows.infer([ints("a", sizes[0]), ints("b", sizes[1])])
        assert caught.value.field == "tensors"


async def test_errors_of_the_model_are_told_without_its_words(
    engines: dict[str, TritonTensors],
) -> None:
    moody = engines["moody"]
    for mood in (1, 2):
        with pytest.raises(Internal) as caught:
            await moody.infer([floats(mood)])
        assert "secret" not in caught.value.message
    with pytest.raises(InvalidArgument) as wrong:
        await moody.infer([floats(4)])
    assert (wrong.value.field, "secret" in wrong.value.message) == ("tensors", False)
    [found] = (await moody.infer([floats(7)])).tensors
    assert found.data == floats(7).data


async def test_what_runs_is_bounded_timed_and_cancelled(
    engines: dict[str, TritonTensors],
) -> None:
    moody = engines["moody"]
    loop = asyncio.get_running_loop()
    slow = loop.create_task(moody.infer([floats(3)], deadline=loop.time() + 0.4))
    while not moody.status().running:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.005)
    with pytest.raises(QueueFull):  # one instance, and no line
        await moody.infer([floats(0)])
    with pytest.raises(DeadlineExceeded):
        await slow
    assert moody.status().running == 0
    left = loop.create_task(moody.infer([floats(3)]))
    while not moody.status().running:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.005)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert moody.status().running == 0
    await moody.infer([floats(0)])


async def test_closing_fails_what_runs(there: Triton) -> None:
    engine = await load(there, "moody")
    running = asyncio.ensure_future(engine.infer([floats(3)]))
    while not engine.status().running:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.005)
    await engine.close()
    with pytest.raises(Unavailable):
        await running


@pytest.mark.parametrize(
    ("name", "dtype", "error", "said"),
    [
        ("streaming", "auto", FailedPrecondition, "decoupled"),
        ("remembering", "auto", FailedPrecondition, "sequence_batching"),
        ("missing", "auto", Unavailable, "tensors-missing"),
        ("rows", "float16", FailedPrecondition, "float16"),
    ],
)
async def test_what_can_not_be_loaded(
    there: Triton, name: str, dtype: str, error: type[DomainError], said: str
) -> None:
    with pytest.raises(error) as caught:
        await load(there, name, dtype=dtype)
    assert said in caught.value.message

"""Tensor models over gRPC: told apart from text models, and asked with tensors or a structure."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from penstock.inference.v1 import inference_service_pb2 as pb

from services.inference.engines.echo_tensors import EchoTensorLoader
from services.inference.registry import ServedTensors
from services.inference.tensor_engine import TensorModelSpec
from services.serving.models import Known, ModelKind
from tests.integration.inference.inference_platform import USER, Platform
from tests.integration.reasons import reason

DATA = struct.pack("<4f", 1, 2, 3, 4)


@pytest.fixture
async def tensors(platform: Platform) -> AsyncIterator[Platform]:
    engine = await EchoTensorLoader().load(TensorModelSpec("arrays", Path()), lambda _: None)
    served = ServedTensors("arrays", ModelKind.TENSOR, "models/arrays/revisions/1", engine)
    platform.registry.put(served)
    platform.registry.know([Known("arrays", ModelKind.TENSOR), Known("echo", ModelKind.CHAT)])
    yield platform
    await engine.close()


def asked(**tensor: Any) -> pb.InferRequest:
    given = {"name": "input", "datatype": "FP32", "shape": [2, 2], "data": DATA} | tensor
    return pb.InferRequest(model="arrays", tensors=pb.TensorList(tensors=[pb.Tensor(**given)]))


async def test_tensors_for_tensors(tensors: Platform) -> None:
    answer = await tensors.inference.Infer(asked(), metadata=USER)
    [found] = answer.tensors.tensors
    assert (found.name, found.datatype, list(found.shape)) == ("output", "FP32", [2, 2])
    assert found.data == DATA
    assert answer.model == "arrays"
    assert answer.HasField("latency")
    assert not answer.HasField("usage")


async def test_a_structure_for_a_structure(tensors: Platform) -> None:
    given = Struct()
    given.update({"input": [[1, 2.5], [-3, 0]]})
    request = pb.InferRequest(model="models/arrays", struct=given)
    answer = await tensors.inference.Infer(request, metadata=USER)
    assert MessageToDict(answer.struct) == {"output": [[1, 2.5], [-3, 0]]}


async def test_runtime_info_tells_what_it_takes(tensors: Platform) -> None:
    await tensors.inference.Infer(asked(), metadata=USER)
    info = await tensors.inference.GetRuntimeInfo(
        pb.GetRuntimeInfoRequest(model="arrays"), metadata=USER
    )
    assert [(one.name, one.datatype, one.any_rank) for one in info.inputs] == [
        ("input", "FP32", True)
    ]
    assert [one.name for one in info.outputs] == ["output"]
    assert (info.engine, info.completed_24h, info.HasField("mean_latency")) == ("echo", 1, True)
    queue = await tensors.inference.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    assert "arrays" in [worker.model for worker in queue.workers]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (asked(name="x"), ("INVALID_ARGUMENT", "tensors.tensors[0].name")),
        (asked(data=b"x"), ("INVALID_ARGUMENT", "tensors.tensors[0].data")),
        (asked(datatype="FP16"), ("INVALID_ARGUMENT", "tensors.tensors[0].datatype")),
        (pb.InferRequest(model="arrays", text="x"), ("UNSUPPORTED_PARAMETER", "text")),
        (pb.InferRequest(model="arrays"), ("MISSING_FIELD", "input")),
        (
            pb.InferRequest(model="arrays", tensors=pb.TensorList()),
            ("MISSING_FIELD", "tensors.tensors"),
        ),
        (pb.InferRequest(model="echo", struct=Struct()), ("UNSUPPORTED_PARAMETER", "struct")),
    ],
)
async def test_what_is_refused(
    tensors: Platform, request_: pb.InferRequest, expected: tuple[str, str]
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tensors.inference.Infer(request_, metadata=USER)
    assert reason(caught.value) == expected


async def test_tensor_models_take_no_parameters_and_generate_no_text(tensors: Platform) -> None:
    request = asked()
    request.parameters.update({"temperature": 1})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tensors.inference.Infer(request, metadata=USER)
    assert reason(caught.value) == ("INVALID_ARGUMENT", "parameters.temperature")
    for call, chat in (
        (tensors.inference.Tokenize, pb.TokenizeRequest(model="arrays", text="x")),
        (tensors.inference.Complete, pb.CompleteRequest(model="arrays", prompts=[{"text": "x"}])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(chat, metadata=USER)
        assert reason(caught.value) == ("INVALID_ARGUMENT", "model")


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": "1"},
        {"max_tokens": "3"},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"ignore_eos": 1},
        {"ignore_eos": "true"},
        {"stop": "x"},
        {"stop": [1]},
        {"stop_token_ids": ["5"]},
        {"logit_bias": {"5": "1"}},
        {"logit_bias": {"x": 1}},
        {"seed": 2**60},
        {"temperature": {"a": 1}},
        {"temperature": [1]},
        {"temperature": 3},
        {"temperature": float("nan")},
        {"logprobs": 2},
        {"Temperature": 1},
    ],
)
async def test_parameters_are_strict(platform: Platform, parameters: dict[str, Any]) -> None:
    request = pb.InferRequest(model="echo", text="hello")
    request.parameters.update(parameters)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.inference.Infer(request, metadata=USER)
    code, field = reason(caught.value)
    [name] = parameters
    assert code == "INVALID_ARGUMENT"
    assert field.startswith(f"parameters.{name}")


async def test_parameters_of_each_type_are_taken(platform: Platform) -> None:
    request = pb.InferRequest(model="echo", text="hello world")
    parameters = {"max_tokens": 7, "stop": ["o w"], "ignore_eos": True, "stop_token_ids": [3]}
    request.parameters.update(parameters | {"temperature": 0.5, "seed": 2**53})
    assert (await platform.inference.Infer(request, metadata=USER)).text == "hell"

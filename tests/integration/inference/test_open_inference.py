"""The Open Inference Protocol over gRPC, as tritonclient speaks it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import ml_dtypes
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from policy.token_store import TokenSources
from services.inference.byte_strings import joined
from services.inference.engines.echo_tensors import EchoTensors
from services.inference.engines.openvino_tensor_loader import OpenVinoTensorLoader
from services.inference.open_inference import to_tensors
from services.inference.open_inference_servicer import OpenInferenceServicer, add_open_inference
from services.inference.registry import Registry, ServedTensors
from services.inference.tensor_engine import DATATYPES, TensorEngine, TensorModelSpec
from services.rpc.authentication import CallAuthenticator
from services.rpc.metering import Metering
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind
from services.usage.journal import Journal, segments, taken
from tests.conformance import tensor_models
from tests.integration.inference.inference_platform import USER, Platform
from tests.integration.reasons import outcome, reason

pb: Any = service_pb2
SERVICE = "inference.GRPCInferenceService"
HEADERS = {"authorization": "Bearer user-token"}
TYPED = {
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}


def serve(platform: Platform, id: str, engine: TensorEngine) -> None:
    served = ServedTensors(id, ModelKind.TENSOR, f"models/{id}/revisions/7", engine)
    platform.registry.put(served)


@pytest.fixture
async def arrays_of_all(platform: Platform) -> Platform:
    """Serves an echo of each type, by its name."""
    for datatype in DATATYPES:
        serve(platform, datatype, EchoTensors(datatype))
    known = [Known(datatype, ModelKind.TENSOR) for datatype in DATATYPES]
    known += [Known("echo", ModelKind.CHAT), Known("loading", ModelKind.TENSOR)]
    platform.registry.know([*known, Known("broken", ModelKind.TENSOR, ("b",), failed=True)])
    return platform


@pytest.fixture
async def client(arrays_of_all: Platform) -> AsyncIterator[InferenceServerClient]:
    async with InferenceServerClient(arrays_of_all.server.address) as client:
        yield client


def stub(platform: Platform) -> Any:
    return service_pb2_grpc.GRPCInferenceServiceStub(platform.channel)


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)


def given_input(array: np.ndarray[Any, Any], datatype: str, name: str = "input") -> InferInput:
    found = InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array)
    return found


def numbers(datatype: str) -> np.ndarray[Any, Any]:
    if datatype == "BYTES":
        return np.array([["a", b"\xff\0"], ["", "ü"]], dtype=np.object_)
    if datatype == "BF16":
        return np.array([[1, -2.5], [3, 0]], dtype=ml_dtypes.bfloat16)
    return np.array([[1, 0], [3, 100]]).astype(triton_to_np_dtype(datatype))


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
async def test_every_type_comes_back_as_it_was_sent(
    client: InferenceServerClient, datatype: str
) -> None:
    array = numbers(datatype)
    answer = await client.infer(
        datatype,
        [given_input(array, datatype)],
        outputs=[InferRequestedOutput("output")],
        request_id="mine",
        headers=HEADERS,
    )
    found = answer.as_numpy("output")
    expected = array
    if datatype == "BYTES":
        expected = np.array([[b"a", b"\xff\0"], [b"", "ü".encode()]], dtype=np.object_)
    assert found.shape == (2, 2)
    assert found.dtype == expected.dtype
    assert (found == expected).all()
    told = answer.get_response()
    assert (told.model_name, told.model_version, told.id) == (datatype, "7", "mine")


@pytest.mark.parametrize("datatype", sorted(TYPED))
async def test_typed_contents_are_the_same_as_raw(arrays_of_all: Platform, datatype: str) -> None:
    array = numbers(datatype)
    flat = [one.encode() if isinstance(one, str) else one for one in array.flatten().tolist()]
    contents = {TYPED[datatype]: flat}
    request = typed(datatype, contents)
    answer = await stub(arrays_of_all).ModelInfer(request, metadata=USER)
    assert list(answer.raw_output_contents) == [
        joined(flat) if datatype == "BYTES" else array.tobytes()
    ]


def typed(datatype: str, contents: dict[str, Any], shape: tuple[int, ...] = (2, 2)) -> Any:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="input",
        datatype=datatype,
        shape=shape,
        contents=pb.InferTensorContents(**contents),
    )
    return pb.ModelInferRequest(model_name=datatype, inputs=[tensor])


def raw(shape: tuple[int, ...] = (1,), data: bytes = bytes(4), **tensor: Any) -> Any:
    given = {"name": "input", "datatype": "FP32", "shape": shape} | tensor
    return pb.ModelInferRequest(model_name="FP32", inputs=[given], raw_input_contents=[data])


def with_(request: Any, **fields: Any) -> Any:
    request.MergeFrom(pb.ModelInferRequest(**fields))
    return request


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (1,) * 32])
async def test_shapes(arrays_of_all: Platform, shape: tuple[int, ...]) -> None:
    request = raw(shape, bytes(4 * math.prod(shape)))
    answer = await stub(arrays_of_all).ModelInfer(request, metadata=USER)
    assert tuple(answer.outputs[0].shape) == shape


SECOND = {"name": "again", "datatype": "FP32", "shape": [1]}
SHARED = {"shared_memory_region": {"string_param": "x"}}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (raw(data=bytes(5)), ("INVALID_ARGUMENT", "raw_input_contents[0]")),
        (raw(shape=(-1,)), ("INVALID_ARGUMENT", "inputs[0].shape")),
        (
            typed("FP32", {"fp32_contents": [1]}, (2**62,) * 300),
            ("INVALID_ARGUMENT", "inputs[0].shape"),
        ),
        (raw(name="x"), ("INVALID_ARGUMENT", "inputs[0].name")),
        (raw(datatype="FP16"), ("INVALID_ARGUMENT", "inputs[0].datatype")),
        (raw(datatype="STRING"), ("INVALID_ARGUMENT", "inputs[0].datatype")),
        (raw(contents={"fp32_contents": [1]}), ("INVALID_ARGUMENT", "inputs[0].contents")),
        (with_(raw(), inputs=[SECOND]), ("INVALID_ARGUMENT", "raw_input_contents")),
        (
            with_(raw(), inputs=[SECOND], raw_input_contents=[bytes(4)]),
            ("INVALID_ARGUMENT", "inputs[1].name"),
        ),
        (pb.ModelInferRequest(model_name="FP32"), ("MISSING_FIELD", "inputs")),
        (pb.ModelInferRequest(), ("MODEL_NOT_FOUND", "model_name")),
        (with_(raw(), model_name="nobody"), ("MODEL_NOT_FOUND", "model_name")),
        (with_(raw(), model_name="echo"), ("INVALID_ARGUMENT", "model_name")),
        (with_(raw(), model_name="vectors"), ("MODEL_NOT_FOUND", "model_name")),
        (with_(raw(), model_name="loading"), ("MODEL_NOT_READY", "model_name")),
        (with_(raw(), model_name="broken"), ("MODEL_NOT_READY", "model_name")),
        (with_(raw(), model_version="8"), ("NOT_FOUND", "model_version")),
        (with_(raw(), outputs=[{"name": "x"}]), ("INVALID_ARGUMENT", "outputs[0].name")),
        (
            with_(raw(), outputs=[{"name": "output"}, {"name": "output"}]),
            ("INVALID_ARGUMENT", "outputs[1].name"),
        ),
        (
            with_(raw(), outputs=[{"name": "output", "parameters": SHARED}]),
            ("UNSUPPORTED_PARAMETER", "outputs[0].parameters.shared_memory_region"),
        ),
        (
            with_(
                raw(),
                outputs=[{"name": "output", "parameters": {"classification": {"int64_param": 2}}}],
            ),
            ("UNSUPPORTED_PARAMETER", "outputs[0].parameters.classification"),
        ),
        (
            raw(parameters=SHARED),
            ("UNSUPPORTED_PARAMETER", "inputs[0].parameters.shared_memory_region"),
        ),
        (
            with_(raw(), parameters={"sequence_id": {"int64_param": 1}}),
            ("UNSUPPORTED_PARAMETER", "parameters.sequence_id"),
        ),
        (
            with_(raw(), parameters={"priority": {"uint64_param": 1}}),
            ("UNSUPPORTED_PARAMETER", "parameters.priority"),
        ),
        (
            with_(raw(), parameters={"timeout": {"string_param": "1"}}),
            ("INVALID_ARGUMENT", "parameters.timeout"),
        ),
        (
            with_(raw(), parameters={"timeout": {"int64_param": -1}}),
            ("INVALID_ARGUMENT", "parameters.timeout"),
        ),
        (with_(raw(), parameters={"x": {}}), ("UNSUPPORTED_PARAMETER", "parameters.x")),
        (
            typed("FP32", {"fp64_contents": [1] * 4}),
            ("INVALID_ARGUMENT", "inputs[0].contents.fp64_contents"),
        ),
        (
            typed("FP16", {"fp32_contents": [1] * 4}),
            ("INVALID_ARGUMENT", "inputs[0].contents.fp32_contents"),
        ),
        (typed("BF16", {}), ("INVALID_ARGUMENT", "inputs[0].data")),
        (
            typed("INT8", {"int_contents": [1, 2, 3, 128]}),
            ("INVALID_ARGUMENT", "inputs[0].contents.int_contents"),
        ),
        (
            typed("UINT16", {"uint_contents": [1, 2, 3, 2**16]}),
            ("INVALID_ARGUMENT", "inputs[0].contents.uint_contents"),
        ),
        (
            typed("BYTES", {"bytes_contents": [b"x"] * 3}),
            ("INVALID_ARGUMENT", "inputs[0].contents.bytes_contents"),
        ),
    ],
)
async def test_what_is_refused(
    arrays_of_all: Platform, request_: Any, expected: tuple[str, str]
) -> None:
    platform = arrays_of_all
    assert await refused(stub(platform).ModelInfer(request_, metadata=USER)) == expected


async def test_clients_read_what_is_wrong(client: InferenceServerClient) -> None:
    wrong = given_input(np.zeros(3, np.float32), "FP32", "x")
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("FP32", [wrong], headers=HEADERS)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert caught.value.message() == (
        "'inputs[0].name': the model has no such input. It takes input."
    )
    with pytest.raises(InferenceServerException) as caught:
        await client.infer("nobody", [wrong], headers=HEADERS)
    assert caught.value.status() == "StatusCode.NOT_FOUND"


async def test_what_serves(client: InferenceServerClient) -> None:
    assert await client.is_server_live(), "whoever probes has no key"
    assert await client.is_server_ready()
    assert (await client.get_server_metadata(headers=HEADERS)).name == "penstock"
    ready = {
        name: await client.is_model_ready(name, headers=HEADERS)
        for name in ("FP32", "echo", "loading", "broken", "nobody")
    }
    assert [name for name, is_ready in ready.items() if is_ready] == ["FP32", "echo"]
    assert await client.is_model_ready("FP32", "7", headers=HEADERS)
    assert not await client.is_model_ready("FP32", "8", headers=HEADERS)
    index = (await client.get_model_repository_index(headers=HEADERS)).models
    states = {one.name: (one.version, one.state) for one in index}
    assert states["BYTES"] == ("7", "READY")
    assert states["loading"] == ("", "LOADING")
    assert states["broken"] == ("", "UNAVAILABLE")


async def test_what_a_model_is(client: InferenceServerClient) -> None:
    found = await client.get_model_metadata("BYTES", headers=HEADERS)
    assert (found.name, list(found.versions), found.platform) == ("BYTES", ["7"], "echo")
    [taken], [answered] = found.inputs, found.outputs
    assert (taken.name, taken.datatype, list(taken.shape)) == ("input", "BYTES", [-1])
    assert answered.name == "output"
    config = (await client.get_model_config("BYTES", "7", headers=HEADERS, as_json=True))["config"]
    assert config["input"] == [{"name": "input", "data_type": "TYPE_STRING", "dims": ["-1"]}]
    for name, version, status in (("nobody", "", "NOT_FOUND"), ("BYTES", "8", "NOT_FOUND")):
        with pytest.raises(InferenceServerException, match=status):
            await client.get_model_metadata(name, version, headers=HEADERS)
    with pytest.raises(InferenceServerException, match="type chat"):
        await client.get_model_metadata("echo", headers=HEADERS)


async def test_the_rest_says_what_does_instead(arrays_of_all: Platform) -> None:
    methods = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    served = {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"}
    served |= {"ModelInfer", "ModelConfig", "RepositoryIndex"}
    others = {one.name: one.input_type.name for one in methods if one.name not in served}
    assert len(others) == 12
    for name, request in others.items():
        call = getattr(stub(arrays_of_all), name)
        given = getattr(pb, request)()
        if name == "ModelStreamInfer":
            answer = call(iter([given]), metadata=USER).read()
        else:
            answer = call(given, metadata=USER)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert len(caught.value.details() or "") > 30


async def test_tools_may_ask_for_its_messages(arrays_of_all: Platform) -> None:
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    reflection = cast("Any", reflection_pb2_grpc).ServerReflectionStub(arrays_of_all.channel)
    listed, found = [one async for one in reflection.ServerReflectionInfo(iter(requests))]
    assert SERVICE in [one.name for one in listed.list_services_response.service]
    assert found.file_descriptor_response.file_descriptor_proto


async def test_it_is_guarded_as_all_else(arrays_of_all: Platform) -> None:
    for name in ("ModelInfer", "ServerMetadata", "ModelMetadata", "ModelReady", "RepositoryIndex"):
        call = getattr(stub(arrays_of_all), name)
        [method] = [
            one
            for one in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
            if one.name == name
        ]
        request = getattr(pb, method.input_type.name)()
        assert (await refused(call(request)))[0] == "MISSING_CREDENTIALS"


async def test_a_time_that_is_too_short(platform: Platform, tmp_path: Path) -> None:
    folder = tensor_models.save(tmp_path, tensor_models.slow(512))
    loader = OpenVinoTensorLoader(queue_limit=1, threads=1)
    engine = await loader.load(TensorModelSpec("slow", folder), lambda _: None)
    try:
        serve(platform, "slow-arrays", engine)
        async with InferenceServerClient(platform.server.address) as client:
            given = given_input(np.ones((512, 512), np.float32), "FP32", "x")
            with pytest.raises(InferenceServerException) as caught:
                await client.infer("slow-arrays", [given], timeout=20_000, headers=HEADERS)
            assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    finally:
        await engine.close()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
async def test_generated_requests(arrays_of_all: Platform, data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from([*sorted(DATATYPES), "STRING", ""]))
    parameter = st.one_of(
        st.builds(lambda v: {"int64_param": v}, st.integers(-(2**63), 2**63 - 1)),
        st.builds(lambda v: {"uint64_param": v}, st.integers(0, 2**64 - 1)),
        st.builds(lambda v: {"double_param": v}, st.floats()),
        st.just({}),
    )
    name = st.sampled_from(["timeout", "priority", "sequence_id", "", "x" * 99, "\n"])
    parameters = st.dictionaries(name, parameter, max_size=1)
    tensor = st.fixed_dictionaries(
        {
            "name": st.sampled_from(["input", "", "\0"]),
            "datatype": st.just(datatype),
            "shape": st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), max_size=3),
        },
        optional={
            "parameters": parameters,
            "contents": st.sampled_from(
                [{}, *({one: [b"x" if one == "bytes_contents" else 1]} for one in TYPED.values())]
            ),
        },
    )
    request = pb.ModelInferRequest(
        model_name=data.draw(st.sampled_from([datatype, "FP32", "echo", "\0"])),
        model_version=data.draw(st.sampled_from(["", "7", "x"])),
        inputs=data.draw(st.lists(tensor, max_size=2)),
        raw_input_contents=data.draw(st.lists(st.binary(max_size=12), max_size=2)),
        parameters=data.draw(parameters),
        outputs=[{"name": one} for one in data.draw(st.lists(st.sampled_from(["output", "x"])))],
    )
    answer = await outcome(stub(arrays_of_all).ModelInfer(request, metadata=USER))
    assert answer not in ("INTERNAL", "UNSPECIFIED")


@given(st.sampled_from(sorted(TYPED.keys() - {"BYTES"})), st.data())
def test_typed_numbers_of_all_sizes(datatype: str, data: st.DataObject) -> None:
    dtype = np.dtype(triton_to_np_dtype(datatype))
    array = data.draw(arrays.arrays(dtype, st.integers(0, 5)))
    request = typed(datatype, {TYPED[datatype]: array.tolist()}, array.shape)
    [tensor] = to_tensors(request)
    assert tensor.data == array.tobytes()


async def test_an_inference_is_one_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "inference", most_bytes=0)
    registry = Registry()
    registry.put(ServedTensors("a", ModelKind.TENSOR, "models/a/revisions/7", EchoTensors()))
    registration = Registration(
        add_open_inference, OpenInferenceServicer(registry, Metering(journal))
    )
    authenticator = CallAuthenticator(TokenSources(api_tokens=("user-token",)))
    async with (
        Server(ServerSettings(), [registration], authenticator=authenticator) as server,
        InferenceServerClient(server.address) as client,
    ):
        headers = HEADERS | {"x-request-id": "req-7"}
        await client.infer("a", [given_input(np.zeros(3, np.float32), "FP32")], headers=headers)
        assert not await client.is_model_ready("b", headers=headers)
    journal.rotate()
    [path] = segments(journal.folder)
    with taken(path) as segment:
        assert segment is not None
        [record] = segment.records
    assert (record.model, record.request_id, record.outcome) == ("a", "req-7", "ok")
    assert record.method == f"{SERVICE}/ModelInfer"

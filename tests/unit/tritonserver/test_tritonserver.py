"""What needs no Triton: tensors, failures, choosing, settings laid over configurations."""

from __future__ import annotations

import asyncio
import contextlib
import json

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MessageTooLarge,
    QueueFull,
    Unsupported,
)
from services.settings import TritonModelSettings, TritonSettings
from services.settings_triton import repository_name
from services.tritonserver.calls import CallOptions, infer
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.failures import (
    EndpointLost,
    StubDied,
    first_line,
    status_error,
    told,
    translate,
    words,
)
from services.tritonserver.placing import Place, choose
from services.tritonserver.protocol import config_pb, on_gpus, pb
from services.tritonserver.repository import merge
from services.tritonserver.tensors import (
    NUMPY_TYPES,
    bytes_tensor,
    from_response,
    join_bytes,
    split_bytes,
    tensor,
    to_request,
)

Code = grpc.StatusCode


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_byte_strings_come_back(values: list[bytes]) -> None:
    assert split_bytes(join_bytes(values)) == values


@given(st.binary(min_size=1, max_size=30))
def test_any_content_is_byte_strings_or_broken(raw: bytes) -> None:
    with contextlib.suppress(Internal):
        assert join_bytes(split_bytes(raw)) == raw


@given(st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 1), min_size=1, max_size=6))
def test_numbers_go_there_and_back(datatype: str, values: list[int]) -> None:
    made = tensor("x", datatype, values)
    request = to_request("m", [made, bytes_tensor("t", ["é", b"\xff"])], ["y"])
    assert [one.name for one in request.outputs] == ["y"]
    answer = pb.ModelInferResponse(raw_output_contents=list(request.raw_input_contents))
    for one in request.inputs:
        answer.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
    read = from_response(answer)
    assert read["x"].array().tolist() == made.array().tolist()
    assert read["t"].elements() == ["é".encode(), b"\xff"]


def test_answers_that_are_not_as_they_say_are_broken() -> None:
    answer = pb.ModelInferResponse(raw_output_contents=[b"\0\0\0"])
    answer.outputs.add(name="x", datatype="FP32", shape=[1])
    with pytest.raises(Internal):
        from_response(answer)
    with pytest.raises(Internal):
        from_response(pb.ModelInferResponse(raw_output_contents=[b"a"]))


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (Code.DEADLINE_EXCEEDED, "", DeadlineExceeded),
        (Code.CANCELLED, "", Cancelled),
        (Code.UNAVAILABLE, "Exceeds maximum queue size", QueueFull),
        (Code.UNAVAILABLE, "Request timeout expired", DeadlineExceeded),
        (Code.UNAVAILABLE, "Socket closed", EndpointLost),
        (Code.NOT_FOUND, "Request for unknown model", EndpointLost),
        (Code.INTERNAL, "Stub process 'm_0' is not healthy.", StubDied),
        (Code.INTERNAL, "ValueError: boom", Internal),
        (Code.RESOURCE_EXHAUSTED, "Received message larger than max", MessageTooLarge),
        (Code.RESOURCE_EXHAUSTED, "no memory", QueueFull),
        (Code.INVALID_ARGUMENT, "[request id: 1] expected 1 inputs", InvalidArgument),
        (Code.UNIMPLEMENTED, "ModelInfer RPC doesn't support models with decoupled", Unsupported),
        (Code.PERMISSION_DENIED, "This protocol is restricted", Internal),
    ],
)
def test_failures_have_their_reasons(code: grpc.StatusCode, details: str, kind: type) -> None:
    error = translate(status_error(code, details), "m")
    assert type(error) is kind
    assert not details or details not in error.message  # Triton's words go to the log


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Request was cancelled", Cancelled),
        ("Stub process 'm_0' is not healthy.", StubDied),
        ("Request for unknown model: 'm' is not found", EndpointLost),
        ("Error generating stream: INVALID_ARGUMENT: no", InvalidArgument),
        ("Error generating stream: QUEUE_FULL: later", QueueFull),
        ("unexpected inference input 'x' for model 'm'", InvalidArgument),
        ("in ensemble 'e', [request id: 1] Request timeout expired", DeadlineExceeded),
        ("whatever", Internal),
    ],
)
def test_streams_tell_failures_in_words(message: str, kind: type[DomainError]) -> None:
    error = translate(told(message), "m")
    assert type(error) is kind


def test_words_are_found_behind_an_error() -> None:
    error = Internal("told")
    error.__cause__ = status_error(Code.INTERNAL, "its own")
    assert words(error) == "its own"
    assert words(Internal("told")) == ""
    assert first_line("\nInternal: ValueError: kaputt\n\nAt:\n  /srv/m/1/model.py(1)\n;") == (
        "Internal: ValueError: kaputt"
    )


async def places(count: int) -> list[Place]:
    addresses = tuple(f"127.0.0.1:{9000 + n}" for n in range(count))
    return [Place(one) for one in Triton(TritonSettings(endpoints=addresses)).endpoints]


async def test_the_least_busy_endpoint_is_taken_in_turns() -> None:
    three = await places(3)
    assert choose([], b"") is None
    taken = [choose(three, b"") for _ in range(6)]
    assert {id(one) for one in taken[:3]} == {id(one) for one in three}
    assert taken[:3] == taken[3:]
    three[0].endpoint.outstanding = three[1].endpoint.outstanding = 1
    assert choose(three, b"") is three[2]


async def test_prefixes_stay_where_they_are() -> None:
    three = await places(3)
    homes = {key: choose(three, key) for key in (bytes([n]) for n in range(60))}
    assert len({id(home) for home in homes.values()}) == 3
    for key, home in homes.items():
        assert home is not None
        assert choose(three, key) is home
        if home is not three[2]:  # an endpoint that goes moves only its own
            assert choose(three[:2], key) is home
    home = homes[b"\x07"]
    assert home is not None
    home.endpoint.outstanding = 50
    assert choose(three, b"\x07") is not home


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_names_in_the_repository_are_names(model: str) -> None:
    name = repository_name(model)
    assert len(name) == len(model)
    assert name.isascii()
    assert "/" not in name


async def test_settings_say_how_a_model_is_called() -> None:
    hosted = {"org/a": TritonModelSettings(name="tensorrt_llm_bls", needs=("tensorrt_llm",))}
    triton = Triton(TritonSettings(models=hosted))
    assert triton.hosted("org/a") is hosted["org/a"]
    assert triton.hosted("ft:x:y").name == "ft_x_y"
    with pytest.raises(FailedPrecondition, match="endpoints"):
        assert Triton(TritonSettings(endpoints=())).endpoints


def test_changes_are_laid_over_a_configuration() -> None:
    config = config_pb.ModelConfig(name="m", backend="python", max_batch_size=4)
    config.parameters["kept"].string_value = "1"
    merged = json.loads(
        merge(config, '{"max_batch_size": 8, "parameters": {"more": {"string_value": "2"}}}')
    )
    assert merged["max_batch_size"] == 8
    assert merged["parameters"] == {
        "kept": {"string_value": "1"},
        "more": {"string_value": "2"},
    }
    assert merge(config, '{"max_batch_size": 4}') == ""
    for broken in ("[]", "{", "1"):
        with pytest.raises(FailedPrecondition):
            merge(config, broken)


@pytest.mark.parametrize(
    ("kinds", "gpus"),
    [((), False), (("CPU",), False), (("CPU", "GPU"), True), (("MODEL",), True)],
)
def test_configurations_say_where_models_run(kinds: tuple[str, ...], gpus: bool) -> None:
    config = config_pb.ModelConfig()
    for kind in kinds:
        config.instance_group.add(kind=f"KIND_{kind}")
    assert on_gpus(config) is gpus


class _Recorded:
    """A server of the protocol that remembers what it was sent."""

    def __init__(self) -> None:
        self.request = pb.ModelInferRequest()
        self.metadata: dict[str, str] = {}

    async def infer(self, request: object, context: grpc.aio.ServicerContext) -> object:
        self.request = request
        self.metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        return pb.ModelInferResponse()


async def test_options_go_with_a_call() -> None:
    recorded = _Recorded()
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        recorded.infer,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    restricted = TritonSettings(restricted_key="admin-key", restricted_value="secret")
    endpoint = Endpoint(f"127.0.0.1:{port}", restricted)
    loop = asyncio.get_running_loop()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    options = CallOptions(
        "req-1", loop.time() + 30, priority=1, trace={"traceparent": trace}, parameters={"a": True}
    )
    await infer(endpoint, to_request("m", []), options)
    parameters = recorded.request.parameters
    assert recorded.request.id == "req-1"
    assert parameters["priority"].int64_param == 1
    assert parameters["a"].bool_param is True
    assert 0 < parameters["timeout"].int64_param <= 30_000_000
    assert recorded.metadata["traceparent"] == trace
    assert recorded.metadata["triton-grpc-protocol-admin-key"] == "secret"
    with pytest.raises(DeadlineExceeded):
        await infer(endpoint, to_request("m", []), CallOptions(deadline=loop.time() - 1))
    await endpoint.close()
    await server.stop(None)

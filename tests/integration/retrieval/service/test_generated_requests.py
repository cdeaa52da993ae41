"""Requests of every kind, made up: answered, or refused as a fault of the caller."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb

from tests.integration.retrieval.service.rag_platform import PARENT, USER, Platform, platform
from tests.postgres_server import empty_database

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"]
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
WORDS = st.sampled_from(
    [
        "docs", "a", "dir/a b", "red", "number", "text", "id", "title", "words", "models/words",
        "echo", "judge", "", " ", "\0", "{context}", "{", "é\u200d", "x" * 300,
        "a\x7f", "*", "select docs filter .number > 1", "docs limit 1", "create_time",
        "2026-01-01T00:00:00Z", "9007199254740993", "%_\\", "🙂", "models/", "\"'`;--", "$[*]",
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        PARENT,
        f"{PARENT}/collections/docs",
        f"{PARENT}/collections/docs/documents/a",
        f"{PARENT}/collections/docs/documents/dir/\0",
        f"{PARENT}/collections/\0",
        f"{PARENT}/prompts/mine",
        f"{PARENT}/prompts/builtin::rag-default",
        "tenants/\x7f/collections/x",
        "tenants/acme",
    ]
)
TEXTS = st.one_of(WORDS, st.text(max_size=20))
NUMBERS = {
    "int": st.one_of(st.integers(-3, 30), st.sampled_from([2**31 - 1, -(2**31)])),
    "long": st.one_of(st.integers(-3, 30), st.sampled_from([2**63 - 1, -(2**63)])),
    "float": st.one_of(
        st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e300, float("nan"), float("inf"), -1.0]),
        st.floats(width=32),
    ),
}
PLACES = {"name", "parent", "collection", "after", "names"}
F = FieldDescriptor


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Values of one field."""
    match field.cpp_type:
        case F.CPPTYPE_MESSAGE:
            return messages(field.message_type, depth - 1)
        case F.CPPTYPE_STRING if field.type == F.TYPE_BYTES:
            return st.one_of(st.binary(max_size=16), st.just(b"\0" * 256), st.just(b"%PDF-1.4\n"))
        case F.CPPTYPE_STRING if field.name in PLACES:
            return st.one_of(NAMES, NAMES, TEXTS)
        case F.CPPTYPE_STRING:
            return TEXTS
        case F.CPPTYPE_ENUM:
            known = [value.number for value in field.enum_type.values]
            return st.sampled_from([*known, *known, 99])
        case F.CPPTYPE_BOOL:
            return st.booleans()
        case F.CPPTYPE_DOUBLE | F.CPPTYPE_FLOAT:
            return NUMBERS["float"]
        case F.CPPTYPE_INT64 | F.CPPTYPE_UINT64:
            return NUMBERS["long"]
        case _:
            return NUMBERS["int"]


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 6) -> Message:
    """Messages of a kind, with any of their fields set."""
    message = GetMessageClass(descriptor)()
    if depth <= 0:
        return message
    fields = [f for f in descriptor.fields if f.containing_oneof is None or f.has_presence]
    for field in (
        draw(st.lists(st.sampled_from(fields), unique_by=lambda f: f.name)) if fields else ()
    ):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inside = field.message_type.fields_by_name
            for key in draw(st.lists(values(inside["key"], depth), max_size=3)):
                value = draw(values(inside["value"], depth))
                target = getattr(message, field.name)
                if isinstance(value, Message):
                    target[key].CopyFrom(value)
                else:
                    target[key] = value
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field, depth), max_size=3)))
        else:
            value = draw(values(field, depth))
            if isinstance(value, Message):
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
    return message


@st.composite
def likely(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    """Requests whose required parts mostly are as they should be, so that the rest is read."""
    message = draw(messages(descriptor))
    names = {f.name for f in descriptor.fields}
    if draw(st.integers(0, 4)):
        for field, value in (
            (
                "parent",
                PARENT
                if "Collections" in descriptor.name
                or "Answer" in descriptor.name
                or "Prompts" in descriptor.name
                or "CreateCollection" in descriptor.name
                else f"{PARENT}/collections/docs",
            ),
            ("collection", f"{PARENT}/collections/docs"),
        ):
            if field in names and descriptor.fields_by_name[field].type == F.TYPE_STRING:
                setattr(message, field, value)
        if isinstance(message, pb.UpdateCollectionRequest):
            message.collection.name = f"{PARENT}/collections/docs"
        if isinstance(message, pb.PutPromptRequest):
            message.prompt.name = f"{PARENT}/prompts/mine"
        if isinstance(message, pb.AnswerRequest):
            message.model = "echo"
            message.query = message.query or "red"
            if message.context.WhichOneof("source") is None:
                message.context.collection_id = "docs"
            message.sampling.max_tokens = 3
        if isinstance(message, pb.SearchRequest) and message.WhichOneof("query") is None:
            message.text = "red"
    return message


async def outcome(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call ends."""
    try:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """A loop that outlives a single example."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def service(
    request: pytest.FixtureRequest,
    loop: asyncio.Runner,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Platform]:
    """The platform with a collection, documents and a prompt, for all examples."""
    stack = contextlib.AsyncExitStack()

    async def start() -> Platform:
        url = ""
        if request.param == "postgres":
            url = await stack.enter_async_context(empty_database(postgres))
        folder = tmp_path_factory.mktemp("generated")
        rag = await stack.enter_async_context(platform(folder, url))
        await fill(rag)
        return rag

    postgres = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    yield loop.run(start())
    loop.run(stack.aclose())


async def fill(rag: Platform) -> None:
    schema = collection_pb.PropertySchema
    kinds = {
        "number": schema.TYPE_INT64,
        "id2": schema.TYPE_UUID,
        "when": schema.TYPE_DATETIME,
        "tags": schema.TYPE_STRING_LIST,
        "any": schema.TYPE_JSON,
    }
    name = await rag.collection(properties=[schema(name=n, type=t) for n, t in kinds.items()])
    await rag.upsert(name, [{"name": n, "text": f"red {n} rocks"} for n in ("a", "dir/a b", "c")])


def methods() -> list[str]:
    return [method.name for method in SERVICE.methods if method.name != "DeleteCollection"]


@pytest.mark.parametrize("method", methods())
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_request_is_our_fault(
    method: str, data: st.DataObject, loop: asyncio.Runner, service: Platform
) -> None:
    descriptor = SERVICE.methods_by_name[method].input_type
    call = getattr(service.stub, method)
    if method == "UpsertDocuments":
        request: Any = data.draw(st.lists(messages(descriptor), max_size=4))
        start = pb.UpsertDocumentsRequest()
        start.start.collection = f"{PARENT}/collections/docs"
        if data.draw(st.booleans()):
            request.insert(0, start)
    else:
        request = data.draw(likely(descriptor))

    async def run() -> tuple[grpc.StatusCode, str]:
        return await outcome(call(request, metadata=USER))

    code, details = loop.run(run())
    assert code in ALLOWED, (code, details)

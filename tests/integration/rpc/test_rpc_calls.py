"""What every call passes through, over real sockets."""

import asyncio
import logging
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_status import rpc_status
from penstock.errors.v1 import error_reason_pb2

from services import errors
from services.errors import DomainError, Violation
from services.rpc.access import Role
from services.rpc.channels import channel
from services.rpc.errors import STATUS_CODES, from_rpc_error
from tests.integration.rpc.rpc_kinds import PATH, USER, Kinds, KindsStub, bearer, named

CLASSES = sorted(STATUS_CODES, key=lambda cls: cls.reason)


def details(error: AioRpcError) -> dict[str, object]:
    """Returns the details of a rich status by type, and proves that there is one ErrorInfo."""
    trailing = grpc.aio.Metadata(*error.trailing_metadata())
    fields = [value for key, value in trailing if key == "grpc-status-details-bin"]
    assert len(fields) == 1
    status = rpc_status.status_pb2.Status.FromString(fields[0])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found: dict[str, object] = {}
    for detail in status.details:
        name = detail.type_url.rpartition(".")[2]
        assert name not in found
        message = getattr(error_details_pb2, name)()
        assert detail.Unpack(message)
        found[name] = message
    info = found["ErrorInfo"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert info.domain == "penstock"
    assert f"ERROR_REASON_{info.reason}" in dict(error_reason_pb2.ErrorReason.items())
    return found


def reason(error: AioRpcError) -> str:
    info = details(error)["ErrorInfo"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    return info.reason


async def failure(call) -> AioRpcError:
    with pytest.raises(AioRpcError) as caught:
        await finished(call)
    return caught.value


async def finished(call) -> None:
    """Waits for a call of any kind."""
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


async def test_all_four_kinds_answer(stub: KindsStub) -> None:
    one = await stub.One(named("models/a"), metadata=USER)
    assert (one.name, one.display_name) == ("models/a", "id-user")
    many = [m.name async for m in stub.Many(named("models/a"), metadata=USER)]
    assert many == ["models/a/0", "models/a/1", "models/a/2"]
    written = [m.name async for m in stub.Written(named("models/a"), metadata=USER)]
    assert written == many
    requests = [named("models/a"), named("models/b")]
    assert (await stub.Collect(iter(requests), metadata=USER)).name == "models/a,models/b"
    both = [m.name async for m in stub.Both(iter(requests), metadata=USER)]
    assert both == ["models/a", "models/b"]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("method", ["One", "Many", "Written"])
async def test_every_domain_error_arrives_whole(
    stub: KindsStub, kinds: Kinds, cls: type[DomainError], method: str
) -> None:
    raised = cls("what to do", field="messages[0].role", retry_after_s=1.25, metadata={"k": "v"})

    async def hook(name, context):
        raise raised

    kinds.hook = hook
    error = await failure(getattr(stub, method)(named("models/a"), metadata=USER))
    assert error.code() is STATUS_CODES[cls]
    assert error.details() == "what to do"
    found = details(error)
    assert found["ErrorInfo"] == error_details_pb2.ErrorInfo(
        reason=cls.reason, domain="penstock", metadata={"k": "v", "param": "messages[0].role"}
    )
    assert found["BadRequest"].field_violations[0].field == "messages[0].role"
    assert found["RetryInfo"].retry_delay.ToNanoseconds() == 1_250_000_000
    read = from_rpc_error(error)
    assert type(read) is cls
    assert (read.message, read.violations) == (raised.message, raised.violations)
    assert read.retry_after_s == 1.25


async def test_an_unknown_exception_is_hidden_and_logged_whole(
    stub: KindsStub, kinds: Kinds, caplog: pytest.LogCaptureFixture
) -> None:
    async def hook(name, context):
        raise KeyError("/secret/path")

    kinds.hook = hook
    for method in (stub.One, stub.Many, stub.Written):
        caplog.clear()
        error = await failure(method(named("models/a"), metadata=USER))
        assert (error.code(), error.details()) == (StatusCode.INTERNAL, "internal error")
        assert reason(error) == "INTERNAL"
        assert b"secret" not in repr(error.trailing_metadata()).encode()
        assert "/secret/path" in caplog.text
    assert kinds.closed == 1


async def test_an_abort_of_the_method_itself_passes(stub: KindsStub, kinds: Kinds) -> None:
    async def hook(name, context):
        await context.abort(StatusCode.DATA_LOSS, "mine", (("x-mine", "1"),))

    kinds.hook = hook
    for method in (stub.One, stub.Many):
        error = await failure(method(named("models/a"), metadata=USER))
        assert (error.code(), error.details()) == (StatusCode.DATA_LOSS, "mine")
        assert ("x-mine", "1") in tuple(error.trailing_metadata())


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), "MISSING_CREDENTIALS"),
        ((("authorization", ""),), "MISSING_CREDENTIALS"),
        ((("authorization", "Bearer wrong"),), "INVALID_CREDENTIALS"),
        ((("authorization", "Basic dXNlcjp1c2Vy"),), "INVALID_CREDENTIALS"),
        ((("authorization", "Bearer"),), "INVALID_CREDENTIALS"),
        ((("x-api-key", "wrong"),), "INVALID_CREDENTIALS"),
    ],
)
async def test_strangers_are_unauthenticated(stub: KindsStub, metadata, expected: str) -> None:
    # Before validation: strangers learn nothing about requests, not even malformed ones.
    for request in (named("models/a"), named(""), b"\xff\xff"):
        for method in (stub.One, stub.Many):
            error = await failure(method(request, metadata=metadata))
            assert error.code() is StatusCode.UNAUTHENTICATED
            assert reason(error) == expected
    error = await failure(stub.Collect(iter([]), metadata=metadata))
    assert error.code() is StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("header", ["Bearer a-token", "bearer a-token", "BEARER  a-token "])
async def test_the_scheme_may_have_any_case(stub: KindsStub, header: str) -> None:
    answer = await stub.One(named("models/a"), metadata=(("authorization", header.strip()),))
    assert answer.display_name == "api-token-1f6076e3"


async def test_an_api_key_header_is_as_good(stub: KindsStub) -> None:
    answer = await stub.One(named("models/a"), metadata=(("x-api-key", "a-token"),))
    assert answer.display_name == "api-token-1f6076e3"


@pytest.mark.parametrize("role", list(Role))
async def test_roles_open_methods(stub: KindsStub, role: Role) -> None:
    assert (await stub.One(named("models/a"), metadata=bearer(role))).name == "models/a"
    call = stub.Manage(named("models/a"), metadata=bearer(role))
    if role in (Role.ADMIN, Role.SUPERADMIN, Role.SERVICE):
        assert (await call).name == "models/a"
    else:
        error = await failure(call)
        assert error.code() is StatusCode.PERMISSION_DENIED
        assert reason(error) == "PERMISSION_DENIED"
        assert "'admin' or 'service'" in error.details()


async def test_open_methods_need_no_credentials(stub: KindsStub) -> None:
    assert (await stub.Open(named("models/a"))).name == "models/a"
    assert (await failure(stub.Open(named("")))).code() is StatusCode.INVALID_ARGUMENT


async def test_requests_are_validated(stub: KindsStub) -> None:
    for request, expected in ((named(""), "MISSING_FIELD"), (named("x"), "INVALID_ARGUMENT")):
        for call in (
            stub.One(request, metadata=USER),
            stub.Many(request, metadata=USER),
            stub.Collect(iter([named("models/a"), request]), metadata=USER),
            stub.Both(iter([named("models/a"), request]), metadata=USER),
        ):
            error = await failure(call)
            assert error.code() is StatusCode.INVALID_ARGUMENT
            found = details(error)
            assert found["ErrorInfo"].reason == expected
            assert found["ErrorInfo"].metadata["param"] == "name"
            assert [v.field for v in found["BadRequest"].field_violations] == ["name"]


async def test_malformed_bytes_are_an_invalid_argument(stub: KindsStub) -> None:
    for call in (
        stub.One(b"\xff\xff\xff", metadata=USER),
        stub.Many(b"\xff\xff\xff", metadata=USER),
        stub.Collect(iter([b"\xff\xff\xff"]), metadata=USER),
        stub.Both(iter([b"\xff\xff\xff"]), metadata=USER),
    ):
        error = await failure(call)
        assert error.code() is StatusCode.INVALID_ARGUMENT
        assert reason(error) == "INVALID_ARGUMENT"


async def test_a_method_that_nobody_serves_is_unimplemented(stub: KindsStub, server) -> None:
    error = await failure(stub.Nothing(named("models/a"), metadata=USER))
    assert (error.code(), reason(error)) == (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    assert f"{PATH}/Nothing" in error.details()


async def trailing_request_id(call) -> str | None:
    await call
    return dict(await call.trailing_metadata()).get("x-request-id")


async def test_the_request_id_comes_back(stub: KindsStub) -> None:
    for given in ("q", "x" * 128, "sp ace~"):
        call = stub.One(named("models/a"), metadata=(*USER, ("x-request-id", given)))
        assert await trailing_request_id(call) == given
        assert (await call).uid == given
    for given in ("", "x" * 129):
        call = stub.One(named("models/a"), metadata=(*USER, ("x-request-id", given)))
        made = await trailing_request_id(call)
        assert made is not None
        assert made.startswith("req_")
    error = await failure(stub.One(named(""), metadata=(*USER, ("x-request-id", "q"))))
    assert ("x-request-id", "q") in tuple(error.trailing_metadata())
    stream = stub.Many(named("models/a"), metadata=(*USER, ("x-request-id", "q")))
    assert len([m async for m in stream]) == 3
    assert ("x-request-id", "q") in tuple(await stream.trailing_metadata())


async def test_trailing_metadata_of_the_method_stays(stub: KindsStub, kinds: Kinds) -> None:
    async def hook(name, context):
        context.set_trailing_metadata((("x-mine", "1"),))
        if name == "models/bad":
            raise errors.QueueFull("full")

    kinds.hook = hook
    call = stub.One(named("models/a"), metadata=(*USER, ("x-request-id", "q")))
    await call
    assert tuple(await call.trailing_metadata()) == (("x-mine", "1"), ("x-request-id", "q"))
    error = await failure(stub.One(named("models/bad"), metadata=USER))
    assert ("x-mine", "1") in tuple(error.trailing_metadata())
    assert details(error)["RetryInfo"].retry_delay.ToNanoseconds() > 0


async def test_the_deadline_is_named(stub: KindsStub, kinds: Kinds) -> None:
    seen: list[BaseException] = []

    async def hook(name, context):
        try:
            if name == "models/own":
                async with asyncio.timeout(context.time_remaining()):
                    await asyncio.sleep(10)
            await asyncio.sleep(10)
        except BaseException as error:
            seen.append(error)
            raise

    kinds.hook = hook
    for name in ("models/own", "models/core"):
        start = time.monotonic()
        error = await failure(stub.One(named(name), metadata=USER, timeout=0.2))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - start < 8
    await asyncio.sleep(0.1)
    assert len(seen) == 2


async def test_a_timeout_that_is_not_the_deadline_is_internal(
    stub: KindsStub, kinds: Kinds
) -> None:
    async def hook(name, context):
        raise TimeoutError

    kinds.hook = hook
    error = await failure(stub.One(named("models/a"), metadata=USER, timeout=30))
    assert error.code() is StatusCode.INTERNAL


async def test_leaving_closes_the_generator(stub: KindsStub, kinds: Kinds) -> None:
    async def hook(name, context):
        await asyncio.sleep(10)

    kinds.hook = hook
    call = stub.Many(named("models/a"), metadata=USER)
    assert (await call.read()).name == "models/a/0"
    await kinds.entered.wait()
    call.cancel()
    for _ in range(100):
        if kinds.closed:
            break
        await asyncio.sleep(0.01)
    assert kinds.closed == 1


async def test_an_error_after_messages_comes_after_them(stub: KindsStub, kinds: Kinds) -> None:
    async def hook(name, context):
        raise errors.SlowReader("read faster")

    kinds.hook = hook
    call = stub.Many(named("models/a"), metadata=USER)
    names = [(await call.read()).name, (await call.read()).name]
    assert names == ["models/a/0", "models/a/1"]
    error = await failure(call.read())
    assert reason(error) == "SLOW_READER"


async def test_each_call_leaves_one_record(
    stub: KindsStub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock.access")
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    more = (("x-request-id", "q"), ("traceparent", f"00-{trace_id}-{span_id}-01"))
    await stub.One(named("models/a"), metadata=(*USER, *more))
    await failure(stub.One(named(""), metadata=(("authorization", "Bearer a-token"), *more)))
    await failure(stub.One(named(""), metadata=(("authorization", "Bearer s3cr3t"), *more)))
    assert [m.name async for m in stub.Many(named("models/a"), metadata=(*USER, *more))]
    records = [r for r in caplog.records if r.name == "penstock.access"]
    keys = ("method", "code", "principal", "request_id", "trace_id")
    shown = [tuple(r.fields[key] for key in keys) for r in records]
    assert shown == [
        (f"{PATH}/One", "OK", "id-user", "q", trace_id),
        (f"{PATH}/One", "INVALID_ARGUMENT", "api-token-1f6076e3", "q", trace_id),
        (f"{PATH}/One", "UNAUTHENTICATED", None, "q", trace_id),
        (f"{PATH}/Many", "OK", "id-user", "q", trace_id),
    ]
    assert all(r.fields["ms"] > 0 for r in records)
    written = " ".join(str(vars(record)) for record in caplog.records)
    assert "s3cr3t" not in written
    assert "a-token" not in written


async def test_a_channel_carries_token_request_id_trace_and_deadline(
    server, stub: KindsStub, kinds: Kinds
) -> None:
    seen: list[dict[str, str]] = []
    remaining: list[float] = []

    async with channel(server.address, token="service", deadline_s=5) as inside:
        inner = KindsStub(inside)

        async def hook(name, context):
            seen.append(dict(context.invocation_metadata()))
            remaining.append(context.time_remaining())
            if name == "models/outer":
                await inner.One(named("models/inner"))

        kinds.hook = hook
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        traceparent = f"00-{trace_id}-b7ad6b7169203331-01"
        more = (("x-request-id", "q"), ("traceparent", traceparent))
        await stub.One(named("models/outer"), metadata=(*USER, *more), timeout=20)
        assert seen[1]["authorization"] == "Bearer service"
        assert seen[1]["x-request-id"] == "q"
        assert seen[1]["traceparent"].startswith(f"00-{trace_id}-")
        assert seen[1]["traceparent"] != traceparent
        assert remaining[0] > 15
        assert 3 < remaining[1] < 6
        own = await inner.One(named("models/a"), metadata=bearer(Role.ADMIN), timeout=20)
        assert own.display_name == "id-admin"


async def test_another_services_trouble_asks_for_patience(
    stub: KindsStub, kinds: Kinds, unused_tcp_port: int
) -> None:
    async with channel(f"127.0.0.1:{unused_tcp_port}") as away:
        other = KindsStub(away)

        async def hook(name, context):
            await other.One(named("models/a"))

        kinds.hook = hook
        error = await failure(stub.One(named("models/a"), metadata=USER))
        assert (error.code(), reason(error)) == (StatusCode.UNAVAILABLE, "UNAVAILABLE")


async def test_another_services_refusal_is_our_fault(server, stub: KindsStub, kinds: Kinds) -> None:
    async with channel(server.address, token="revoked") as inside:
        inner = KindsStub(inside)

        async def hook(name, context):
            await inner.One(named("models/a"))

        kinds.hook = hook
        error = await failure(stub.One(named("models/a"), metadata=USER))
        assert (error.code(), error.details()) == (StatusCode.INTERNAL, "internal error")


async def test_idempotent_calls_are_repeated(server, kinds: Kinds) -> None:
    attempts = 0

    async def hook(name, context):
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise errors.Unavailable("later")

    kinds.hook = hook
    methods = ["test.v1.KindsService/One"]
    async with channel(server.address, token="user", idempotent=methods) as inside:
        assert (await KindsStub(inside).One(named("models/a"))).name == "models/a"
    assert attempts == 3
    attempts = 0
    async with channel(server.address, token="user") as inside:
        assert reason(await failure(KindsStub(inside).One(named("models/a")))) == "UNAVAILABLE"
    assert attempts == 1


async def test_violations_survive_the_way(stub: KindsStub, kinds: Kinds) -> None:
    violations = [Violation("a", "too small"), Violation("b[1]", "too big")]

    async def hook(name, context):
        raise errors.InvalidArgument("two", violations=violations)

    kinds.hook = hook
    error = await failure(stub.One(named("models/a"), metadata=USER))
    assert from_rpc_error(error).violations == tuple(violations)


async def test_a_message_over_the_limit_is_refused(server, kinds: Kinds) -> None:
    async with channel(server.address, token="user", max_message_bytes=200 << 20) as inside:
        big = named("models/" + "x" * (66 << 20))
        error = await failure(KindsStub(inside).One(big))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        assert type(from_rpc_error(error)) is errors.MessageTooLarge


async def test_an_error_out_of_a_task_group_is_told(stub: KindsStub, kinds: Kinds) -> None:
    async def fail() -> None:
        raise errors.ModelNotFound("no such model")

    async def hook(name, context):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    kinds.hook = hook
    error = await failure(stub.One(named("models/a"), metadata=USER))
    assert reason(error) == "MODEL_NOT_FOUND"

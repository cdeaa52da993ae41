"""Starting, stopping, health, reflection and TLS, over real sockets."""

import asyncio
import time
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.rpc.access import Role, requires
from services.rpc.channels import ClientTls, channel
from services.rpc.server import (
    AddressError,
    Registration,
    Server,
    ServerSettings,
    ServerTls,
    TlsFileError,
    UndeclaredMethodError,
)
from tests.integration.rpc.rpc_certificates import Authority
from tests.integration.rpc.rpc_kinds import (
    SERVICE,
    USER,
    Kinds,
    KindsStub,
    add_kinds,
    named,
    registration,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def test_a_method_without_a_declaration_cant_start(authenticator) -> None:
    class Forgetful(Kinds):
        async def One(self, request, context):  # noqa: N802
            raise NotImplementedError

    with pytest.raises(UndeclaredMethodError, match=r"Forgetful\.One must say who may call it"):
        Server(ServerSettings(), [registration(Forgetful())], authenticator=authenticator)


def test_a_method_that_is_not_async_cant_start(authenticator) -> None:
    class Blocking(Kinds):
        @requires(Role.USER)
        def One(self, request, context):  # noqa: N802
            raise NotImplementedError

    with pytest.raises(TypeError, match="must be an `async def`"):
        Server(ServerSettings(), [registration(Blocking())], authenticator=authenticator)


async def test_a_taken_port_is_a_clear_error(server: Server, authenticator) -> None:
    settings = ServerSettings(address=server.address)
    second = Server(settings, [registration(Kinds())], authenticator=authenticator)
    with pytest.raises(AddressError, match=rf"Can't listen on {server.address}: the port is taken"):
        await second.start()


async def test_a_unix_socket_will_do(kinds: Kinds, authenticator, tmp_path: Path) -> None:
    settings = ServerSettings(address=f"unix:{tmp_path}/socket")
    async with Server(settings, [registration(kinds)], authenticator=authenticator) as server:
        assert server.address == settings.address
        async with channel(server.address) as to_it:
            answer = await KindsStub(to_it).One(named("models/a"), metadata=USER)
            assert answer.name == "models/a"


async def check(to_it: grpc.aio.Channel, name: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(to_it)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_is_told_per_service_and_model(server: Server) -> None:
    async with channel(server.address) as to_it:
        assert await check(to_it) == SERVING
        assert await check(to_it, SERVICE) == SERVING
        with pytest.raises(AioRpcError) as caught:
            await check(to_it, "models/a")
        assert caught.value.code() is StatusCode.NOT_FOUND
        watch = health_pb2_grpc.HealthStub(to_it).Watch(
            health_pb2.HealthCheckRequest(service="models/a")
        )
        assert (await watch.read()).status == UNKNOWN
        server.health.set("models/a", False)
        assert (await watch.read()).status == NOT_SERVING
        server.health.set("models/b", True)
        server.health.set("models/a", True)
        assert (await watch.read()).status == SERVING
        assert await check(to_it, "models/b") == SERVING
        server.health.remove("models/a")
        assert (await watch.read()).status == UNKNOWN
        watch.cancel()


async def test_a_service_may_say_itself_when_it_is_ready(kinds: Kinds, authenticator) -> None:
    services = [registration(kinds, ready=False)]
    async with (
        Server(ServerSettings(), services, authenticator=authenticator) as server,
        channel(server.address) as to_it,
    ):
        assert await check(to_it) == SERVING
        assert await check(to_it, SERVICE) == NOT_SERVING
        server.health.set(SERVICE, True)
        assert await check(to_it, SERVICE) == SERVING


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection_lists_services(server: Server, version: str) -> None:
    async with channel(server.address) as to_it:
        call = to_it.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        answers = [answer async for answer in call(iter(requests))]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_off(kinds: Kinds, authenticator) -> None:
    settings = ServerSettings(reflection=False)
    services = [registration(kinds)]
    async with (
        Server(settings, services, authenticator=authenticator) as server,
        channel(server.address) as to_it,
    ):
        call = reflection_pb2_grpc.ServerReflectionStub(to_it).ServerReflectionInfo(iter([]))
        assert await call.code() is StatusCode.UNIMPLEMENTED


async def test_a_drain_loses_nothing(kinds: Kinds, authenticator) -> None:
    settings = ServerSettings(grace_s=10, drain_delay_s=0.2)
    server = Server(settings, [registration(kinds)], authenticator=authenticator)
    await server.start()

    async def hook(name, context):
        await kinds.release.wait()

    kinds.hook = hook
    async with channel(server.address) as to_it, channel(server.address) as late:
        stub = KindsStub(to_it)
        health = health_pb2_grpc.HealthStub(to_it).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == SERVING
        streaming = stub.Many(named("models/a"), metadata=USER)
        assert (await streaming.read()).name == "models/a/0"
        unary = asyncio.ensure_future(
            asyncio.wait_for(stub.One(named("models/b"), metadata=USER), 60)
        )
        own_end = stub.UntilDrain(named("models/a"), metadata=USER)
        assert (await own_end.read()).name == "first"
        await late.channel_ready()
        await asyncio.sleep(0.05)

        stopped = asyncio.ensure_future(server.stop())
        # Health says so first, and calls still get in for a moment.
        assert (await health.read()).status == NOT_SERVING
        assert await health.read() is grpc.aio.EOF
        assert (await KindsStub(late).Open(named("models/c"))).name == "models/c"
        await asyncio.sleep(0.4)
        with pytest.raises(AioRpcError) as caught:
            await KindsStub(late).Open(named("models/c"), timeout=30)
        assert caught.value.code() is StatusCode.UNAVAILABLE
        assert not stopped.done()

        kinds.release.set()
        assert (await streaming.read()).name == "models/a/1"
        assert (await streaming.read()).name == "models/a/2"
        assert await streaming.read() is grpc.aio.EOF
        assert (await unary).name == "models/b"
        assert (await own_end.read()).name == "last"
        assert await own_end.read() is grpc.aio.EOF
        await asyncio.wait_for(stopped, 30)
    server.health.set("", True)
    assert server.health.serving("") is False


async def test_what_outlasts_the_grace_is_cancelled(kinds: Kinds, authenticator) -> None:
    settings = ServerSettings(grace_s=0.3)
    server = Server(settings, [registration(kinds)], authenticator=authenticator)
    await server.start()

    async def hook(name, context):
        await asyncio.sleep(60)

    kinds.hook = hook
    async with channel(server.address) as to_it:
        streaming = KindsStub(to_it).Many(named("models/a"), metadata=USER)
        await streaming.read()
        await kinds.entered.wait()
        start = time.monotonic()
        await server.stop()
        assert 0.2 < time.monotonic() - start < 30
        await asyncio.sleep(0.05)
        assert kinds.closed == 1
        assert (await streaming.read()).name == "models/a/1"
        with pytest.raises(AioRpcError):
            await streaming.read()


async def test_a_drain_ends_endless_streams_at_once(server: Server, kinds: Kinds) -> None:
    async with channel(server.address) as to_it:
        watch = KindsStub(to_it).Watch(named("models/a"), metadata=USER)
        await watch.read()
        await kinds.entered.wait()
        # A tool that explores holds its reflection stream open.
        reflection = reflection_pb2_grpc.ServerReflectionStub(to_it).ServerReflectionInfo()
        await reflection.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await reflection.read()
        start = time.monotonic()
        await server.stop(10)
        assert time.monotonic() - start < 8
        assert await watch.code() is StatusCode.UNAVAILABLE
        assert kinds.closed == 1
        assert await reflection.code() is StatusCode.UNAVAILABLE


async def test_stopping_twice_shortens_the_wait(server: Server, kinds: Kinds) -> None:
    async def hook(name, context):
        await asyncio.sleep(60)

    kinds.hook = hook
    async with channel(server.address) as to_it:
        call = KindsStub(to_it).One(named("models/a"), metadata=USER)
        await kinds.entered.wait()
        first = asyncio.ensure_future(server.stop(30))
        await asyncio.sleep(0.1)
        assert not first.done()
        await asyncio.wait_for(server.stop(0), 20)
        await asyncio.wait_for(first, 20)
        with pytest.raises((AioRpcError, asyncio.CancelledError)):
            await call


async def one_over(address: str, tls: ClientTls | None) -> str:
    async with channel(address, tls=tls) as to_it:
        answer = await KindsStub(to_it).One(named("models/a"), metadata=USER, timeout=60)
        return answer.name


async def refused(address: str, tls: ClientTls | None) -> None:
    with pytest.raises(AioRpcError) as caught:
        await one_over(address, tls)
    assert caught.value.code() in (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED)


async def test_tls(kinds: Kinds, authenticator, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    certificate, key = authority.issue("server")
    settings = ServerSettings(tls=ServerTls(certificate, key))
    services = [registration(kinds)]
    async with Server(settings, services, authenticator=authenticator) as server:
        assert await one_over(server.address, ClientTls(ca=authority.certificate)) == "models/a"
        # Without an authority to name, the certificate itself can be trusted.
        assert await one_over(server.address, ClientTls(ca=certificate)) == "models/a"
        await refused(server.address, ClientTls(ca=stranger.certificate))
        await refused(server.address, None)


async def test_mutual_tls(kinds: Kinds, authenticator, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    ca = authority.certificate
    settings = ServerSettings(tls=ServerTls(*authority.issue("server"), client_ca=ca))
    services = [registration(kinds)]
    async with Server(settings, services, authenticator=authenticator) as server:
        own = ClientTls(ca, *authority.issue("client"))
        assert await one_over(server.address, own) == "models/a"
        await refused(server.address, ClientTls(ca))
        await refused(server.address, ClientTls(ca, *stranger.issue("other")))


async def test_a_missing_certificate_is_a_clear_error(authenticator, tmp_path: Path) -> None:
    settings = ServerSettings(tls=ServerTls(tmp_path / "none.pem", tmp_path / "none.key"))
    server = Server(settings, [Registration(add_kinds, Kinds())], authenticator=authenticator)
    with pytest.raises(TlsFileError, match=r"none\.key can't be read"):
        await server.start()

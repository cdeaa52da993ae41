"""Certificates that change while servers and channels run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from policy.pem_files import PemFiles, TlsFileError
from policy.renewal import RenewedChannel
from policy.token_store import TokenSources
from policy.workloads import Peers
from services.rpc.authentication import CallAuthenticator, Identities
from services.rpc.channels import ClientTls, channel
from services.rpc.server import Server, ServerSettings, ServerTls
from tests.integration.access.certificates import Authority
from tests.integration.rpc.rpc_kinds import USER, Kinds, KindsStub, Tokens, named, registration
from tests.rotated_certificates import LOCAL, CertificateFolder


def files_of(folder: Path) -> CertificateFolder:
    return CertificateFolder(folder, f"spiffe://test/{folder.name}")


def served(files: CertificateFolder) -> ServerSettings:
    tls = ServerTls(files.certificate, files.key, files.ca)
    return ServerSettings(address="localhost:0", tls=tls, grace_s=5)


def calling(files: CertificateFolder) -> ClientTls:
    return ClientTls(files.ca, files.certificate, files.key)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy.renewal._LOOK_S", 0)


async def test_no_call_is_lost_when_the_authority_changes(
    tmp_path: Path, kinds: Kinds, authenticator: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    server_files, client_files = files_of(tmp_path / "server"), files_of(tmp_path / "client")
    for files in (server_files, client_files):
        files.fill(old)
    release = asyncio.Event()

    async def hook(name: str, _: object) -> None:
        if name == "models/held":
            await release.wait()

    kinds.hook = hook
    services = [registration(kinds)]
    async with Server(served(server_files), services, authenticator=authenticator) as s:

        async def fresh(tls: ClientTls) -> StatusCode:
            """Calls over a connection of its own."""
            async with channel(s.address, tls=tls) as opened:
                call = KindsStub(opened).One(named("models/fresh"), metadata=USER, timeout=20)
                return await call.code()

        async with channel(s.address, tls=calling(client_files)) as kept:
            stub = KindsStub(kept)
            held = stub.Many(named("models/held"), metadata=USER)
            events = aiter(held)
            assert (await anext(events)).name == "models/held/0"
            # As operators do it: both are trusted, then the new one signs, then the old one goes.
            for signs, trusted in ((old, (old, new)), (new, (old, new)), (new, (new,))):
                for files in (client_files, server_files):
                    files.fill(signs, *trusted)
                    assert await stub.One(named("models/kept"), metadata=USER)
                    assert await fresh(calling(client_files)) is StatusCode.OK
            # What the old one signed counts no more.
            late = ClientTls(new.file, *old.issue("late", *LOCAL))
            assert await fresh(late) is StatusCode.UNAVAILABLE
            release.set()
            rest = [event.name async for event in events]
            assert rest == ["models/held/1", "models/held/2"]


async def test_a_renewed_channel_closes_what_it_left(
    tmp_path: Path, kinds: Kinds, authenticator: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    authority = Authority(tmp_path)
    files = files_of(tmp_path / "both")
    files.fill(authority)
    opened: list[grpc.aio.Channel] = []
    async with Server(served(files), [registration(kinds)], authenticator=authenticator) as server:

        def open_(pems) -> grpc.aio.Channel:
            credentials = grpc.ssl_channel_credentials(pems.ca, pems.key, pems.certificate)
            opened.append(grpc.aio.secure_channel(server.address, credentials))
            return opened[-1]

        where = PemFiles(certificate=files.certificate, key=files.key, ca=files.ca)
        async with RenewedChannel(open_, where) as renewed:
            await renewed.channel_ready()
            first = renewed.present()
            assert renewed.present() is first
            files.fill(authority)
            stub = KindsStub(renewed)
            assert (await stub.One(named("models/a"), metadata=USER)).name == "models/a"
            assert renewed.present() is not first
            for _ in range(10):  # turns of the loop: no call runs that could hold it
                await asyncio.sleep(0)
            assert first.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        assert renewed.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert len(opened) == 2


def test_half_of_a_change_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("one")
    files = PemFiles(certificate=certificate, key=key, ca=authority.file)
    first = files.read()
    assert files.news() is None
    certificate.touch()  # nothing new in it
    assert files.news() is None

    new_certificate, new_key = authority.issue("two")
    certificate.write_bytes(new_certificate.read_bytes())
    assert files.news() is None
    assert "the key is not that of the certificate" in caplog.text
    key.write_bytes(b"not a key")
    assert files.news() is None
    authority.file.rename(tmp_path / "away.pem")
    assert files.news() is None
    (tmp_path / "away.pem").rename(authority.file)
    key.write_bytes(new_key.read_bytes())
    news = files.news()
    assert news is not None
    assert (news.certificate, news.key, news.ca) == (
        new_certificate.read_bytes(),
        new_key.read_bytes(),
        first.ca,
    )
    assert files.news() is None
    with pytest.raises(TlsFileError, match=r"none\.crt can't be read"):
        PemFiles(certificate=tmp_path / "none.crt").read()


@pytest.mark.parametrize(
    ("peers", "code"),
    [
        (("spiffe://test/client",), None),
        (("spiffe://test/*",), None),
        ((), None),
        (("spiffe://test/other", "spiffe://test/client/x"), StatusCode.PERMISSION_DENIED),
        (("spiffe://elsewhere/*",), StatusCode.PERMISSION_DENIED),
    ],
)
async def test_who_may_connect_is_told_by_the_certificate(
    tmp_path: Path, kinds: Kinds, peers: tuple[str, ...], code: StatusCode | None
) -> None:
    authority = Authority(tmp_path)
    server_files, client_files = files_of(tmp_path / "server"), files_of(tmp_path / "client")
    for files in (server_files, client_files):
        files.fill(authority)
    tls = ServerTls(server_files.certificate, server_files.key, server_files.ca, Peers(peers))
    authenticator = CallAuthenticator(TokenSources(), more=Identities(require_auth=False))
    services = [registration(kinds)]
    settings = ServerSettings(address="localhost:0", tls=tls)
    async with (
        Server(settings, services, authenticator=authenticator) as server,
        channel(server.address, tls=calling(client_files)) as opened,
    ):
        stub = KindsStub(opened)
        # Methods that are open to strangers are not open to these.
        for call in (stub.One(named("models/a")), stub.Open(named("models/a"))):
            assert await call.code() is (code or StatusCode.OK)
        events = [event async for event in stub.Many(named("models/a"))] if code is None else []
        assert len(events) == (3 if code is None else 0)

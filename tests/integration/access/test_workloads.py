"""Client certificates over real TLS: whom they stand for, and what goes before them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb
from penstock.access.v1.key_service_pb2_grpc import (
    KeyServiceStub,
    add_KeyServiceServicer_to_server,
)

from policy.principals import Limits
from services.model.key_feed import KeyFeed
from services.model.key_servicer import KeyServicer
from services.model.keys import Keys
from services.model.stores.keys import SqlKeys
from services.model.stores.sql import SqlStore
from services.rpc.channels import ClientTls, channel
from services.rpc.process import authenticator_of, server_settings
from services.rpc.server import Registration, Server
from services.settings import SettingsError, load
from tests.integration.access.certificates import Authority
from tests.integration.reasons import outcome

ID = "spiffe://example.org/ns/apps/sa/indexer"
CONFIG = """
[services]
data_dir = "{folder}"
[services.model]
address = "localhost:0"
[tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{ca}"
[api]
require_auth = {required}
[auth.mtls."spiffe://example.org/ns/apps/*"]
roles = ["user"]
[auth.mtls."spiffe://example.org/ns/apps/sa/*"]
roles = ["trainer"]
tenants = ["acme"]
allowed_models = ["gpt*"]
tokens_per_day = 7
[auth.mtls."spiffe://example.org/ns/apps/sa/boss"]
roles = ["admin"]
"""


class Platform:
    """KeyService behind mutual TLS."""

    def __init__(self, authority: Authority, address: str) -> None:
        self.authority = authority
        self._address = address

    async def caller(
        self, *names: x509.GeneralName, authority: Authority | None = None, **metadata: str
    ) -> service_pb.Caller | str:
        """Whom a call is taken to be of, that a workload of these names makes."""
        certificate, key = (authority or self.authority).issue("client", *names)
        tls = ClientTls(self.authority.file, certificate, key)
        async with channel(self._address, tls=tls) as opened:
            sent = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
            call = KeyServiceStub(opened).GetCaller(
                service_pb.GetCallerRequest(), metadata=sent, timeout=30
            )
            return await outcome(call)


@contextlib.asynccontextmanager
async def running(folder: Path, *, required: str = "true") -> AsyncIterator[Platform]:
    authority = Authority(folder)
    certificate, key = authority.issue("server", x509.DNSName("localhost"))
    file = folder / "penstock.toml"
    file.write_text(
        CONFIG.format(
            folder=folder, certificate=certificate, key=key, ca=authority.file, required=required
        )
    )
    settings = load(file, {"API_TOKENS": "token"}, {})
    async with contextlib.AsyncExitStack() as stack:
        store = await SqlStore.open(settings.services.model.database_url)
        await stack.enter_async_context(contextlib.aclosing(store))
        keys = SqlKeys(store)
        feed = KeyFeed(keys)
        servicer = KeyServicer(
            Keys(keys, announce=feed.announced), feed, defaults=Limits(tokens_per_minute=5)
        )
        server = Server(
            server_settings(settings, "model"),
            [Registration(add_KeyServiceServicer_to_server, servicer)],
            authenticator=authenticator_of(settings),
        )
        await stack.enter_async_context(server)
        yield Platform(authority, server.address)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


async def test_certificates_stand_for_workloads(tmp_path: Path) -> None:
    async with running(tmp_path) as platform:
        assert await platform.caller(uri(ID), x509.DNSName("indexer")) == service_pb.Caller(
            id=ID,
            display_name=ID,
            roles=[pb.ROLE_TRAINER],
            allowed_models=["gpt*"],
            limits=pb.Limits(tokens_per_minute=5, tokens_per_day=7),
            tenants=["acme"],
        )
        boss = await platform.caller(uri("spiffe://example.org/ns/apps/sa/boss"))
        assert boss.roles == [pb.ROLE_ADMIN]
        user = await platform.caller(uri("spiffe://example.org/ns/apps/x"))
        assert (user.roles, user.tenants) == ([pb.ROLE_USER], ["default"])

        # A credential goes before the certificate, also one that is wrong.
        someone = await platform.caller(uri(ID), authorization="Bearer token")
        assert someone.id.startswith("api-token-")
        assert await platform.caller(uri(ID), authorization="Bearer x") == "INVALID_CREDENTIALS"
        # Whom an edge or a proxy passes on is neither of them.
        for header in ("x_penstock_dialect", "x_forwarded_proto", "x_envoy_attempt_count"):
            found = await platform.caller(uri(ID), **{header: "openai"})
            assert found == "MISSING_CREDENTIALS", header

        for names in (
            (),
            (uri("spiffe://example.org/ns/other"),),
            (uri("spiffe://evil.org/ns/apps/sa/boss"),),
            (uri("https://example.org/ns/apps/sa/boss"),),
            # Only one is taken to be somebody's name.
            (uri(ID), uri("spiffe://example.org/ns/apps/sa/boss")),
            (x509.DNSName(ID),),
        ):
            assert await platform.caller(*names) == "MISSING_CREDENTIALS", names
        stranger = Authority(tmp_path, "stranger")
        with pytest.raises(KeyError, match="status"):  # none came: the handshake fails
            await platform.caller(uri(ID), authority=stranger)


async def test_where_no_credential_is_needed(tmp_path: Path) -> None:
    async with running(tmp_path, required="false") as platform:
        assert (await platform.caller(uri(ID))).id == ID
        assert (await platform.caller(uri(ID), x_penstock_dialect="openai")).id == "anonymous"
        assert (await platform.caller()).id == "anonymous"


@pytest.mark.parametrize(
    ("pattern", "roles", "said"),
    [
        ("https://example.org/x", '["user"]', "is not like"),
        ("spiffe://", '["user"]', "is not like"),
        ("spiffe://*", '["user"]', "domain has to be whole"),
        ("spiffe://a*/x", '["user"]', "domain has to be whole"),
        ("spiffe://a/*/b", '["user"]', "last character"),
        ("spiffe://a/b", "[]", "needs a role"),
        ("spiffe://a/b", '["service"]', "service"),
    ],
)
def test_maps_that_make_no_sense(tmp_path: Path, pattern: str, roles: str, said: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    file = tmp_path / "penstock.toml"
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    mtls = f'[auth.mtls."{pattern}"]\nroles = {roles}\n'
    file.write_text(f'{tls}client_ca = "{authority.file}"\n{mtls}')
    with pytest.raises(SettingsError, match=said):
        authenticator_of(load(file, {}, {}))
    file.write_text(f'{tls}[auth.mtls."spiffe://a/b"]\nroles = ["user"]\n')
    with pytest.raises(SettingsError, match="client_ca"):
        authenticator_of(load(file, {}, {}))

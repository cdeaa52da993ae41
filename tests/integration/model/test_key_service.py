"""KeyService over real sockets, in SQLite and Postgres: who may give what, and who hears of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb
from penstock.access.v1.key_service_pb2_grpc import (
    KeyServiceStub,
    add_KeyServiceServicer_to_server,
)

from policy.fed_keys import FedKeys
from policy.following import FollowSettings, hear
from policy.key_secrets import digest
from policy.principals import Limits
from policy.scram import derive
from policy.token_store import TokenSources
from services.errors import InvalidCredentials, Unavailable
from services.model.key_feed import KeyFeed
from services.model.key_servicer import KeyServicer
from services.model.keys import Keys
from services.model.stores.keys import SqlKeys
from services.model.stores.sql import SqlStore
from services.rpc.authentication import CallAuthenticator
from services.rpc.channels import channel
from services.rpc.key_feed import FollowingAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from tests.integration.reasons import reason

CALLERS = (
    {"id": "user", "roles": ["user"]},
    {"id": "admin", "roles": ["admin"], "tenants": ["*"]},
    {"id": "boss", "roles": ["superadmin"], "tenants": ["*"]},
    {"id": "acme", "roles": ["admin"], "tenants": ["acme"]},
    {"id": "narrow", "roles": ["admin"], "tenants": ["*"], "allowed_models": ["gpt*", "bge"]},
)
QUICK = FollowSettings(wait_least_s=0.02, wait_most_s=0.05)


@dataclass
class Service:
    """A running KeyService."""

    server: Server
    feed: KeyFeed
    stub: Callable[[str], KeyServiceStub]

    async def create(self, caller: str = "admin", **fields) -> pb.Key:
        fields = {"display_name": "k", "roles": [pb.ROLE_USER], **fields}
        return await self.stub(caller).CreateKey(
            service_pb.CreateKeyRequest(key=pb.Key(**fields)), wait_for_ready=True
        )

    async def update(self, caller: str, key: pb.Key, *paths: str) -> pb.Key:
        request = service_pb.UpdateKeyRequest(key=key, update_mask=FieldMask(paths=paths))
        return await self.stub(caller).UpdateKey(request)

    async def delete(self, caller: str, name: str) -> None:
        await self.stub(caller).DeleteKey(service_pb.DeleteKeyRequest(name=name))


@pytest.fixture
def start(tmp_path: Path):
    """Starts KeyService on a database, with callers that are called like their tokens."""
    tokens = [{"name": c["id"], "sha256": digest(c["id"]), **c} for c in CALLERS]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))

    @contextlib.asynccontextmanager
    async def run(url: str, *, address: str = "127.0.0.1:0", **feeding) -> AsyncIterator[Service]:
        async with contextlib.AsyncExitStack() as stack:
            store = await stack.enter_async_context(contextlib.aclosing(await SqlStore.open(url)))
            feed = KeyFeed(SqlKeys(store), **feeding)
            await feed.refresh()
            servicer = KeyServicer(
                Keys(SqlKeys(store), announce=feed.announced),
                feed,
                defaults=Limits(requests_per_minute=7, tokens_per_day=0),
                heartbeat_s=0.2,
            )
            sources = TokenSources(service_token="service", token_file=tmp_path / "tokens.json")
            server = Server(
                ServerSettings(address, grace_s=1.0),
                [Registration(add_KeyServiceServicer_to_server, servicer)],
                authenticator=CallAuthenticator(sources, feed.book),
            )
            following = asyncio.create_task(feed.run())
            stack.callback(following.cancel)
            await stack.enter_async_context(server)

            def stub(token: str) -> KeyServiceStub:
                to_keys = channel(server.address, token=token)
                stack.push_async_callback(to_keys.close)
                return KeyServiceStub(to_keys)

            yield Service(server, feed, stub)

    return run


@pytest.fixture
async def service(start, database_url) -> AsyncIterator[Service]:
    async with start(database_url) as service:
        yield service


def plain(key: pb.Key, *without: str) -> pb.Key:
    copy = pb.Key()
    copy.CopyFrom(key)
    for field in without:
        copy.ClearField(field)
    return copy


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if check():
                return
            await asyncio.sleep(0.01)


async def test_a_key_is_made_shown_changed_and_revoked(service: Service) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    made = await service.create(
        display_name="laptop",
        roles=[pb.ROLE_TRAINER, pb.ROLE_USER],
        allowed_models=["gpt*", "bge"],
        limits=pb.Limits(requests_per_minute=5, tokens_per_day=0),
        tenants=["acme"],
        expire_time=end,
        # What callers can't choose is ignored.
        name="keys/mine",
        secret="mine",
        sha256="0" * 64,
        etag="9",
    )
    assert made.name.startswith("keys/key_")
    assert len(made.name) == 21
    assert made.secret.startswith("pnstk_")
    assert len(made.secret) == 46
    assert made.sha256 == made.scram_verifier == ""
    assert made.limits.HasField("tokens_per_day")
    assert not made.limits.HasField("tokens_per_minute")
    assert abs(made.expire_time.ToDatetime(UTC) - end) < timedelta(milliseconds=1)

    shown = await service.stub("admin").GetKey(service_pb.GetKeyRequest(name=made.name))
    assert shown == plain(made, "secret")
    caller = await service.stub(made.secret).GetCaller(service_pb.GetCallerRequest())
    assert caller == service_pb.Caller(
        id=made.name.removeprefix("keys/"),
        display_name="laptop",
        roles=[pb.ROLE_TRAINER, pb.ROLE_USER],
        allowed_models=["gpt*", "bge"],
        limits=pb.Limits(requests_per_minute=5, tokens_per_day=0),
        tenants=["acme"],
    )

    change = pb.Key(name=made.name, display_name="desk", roles=[pb.ROLE_ADMIN], etag=made.etag)
    change.limits.tokens_per_minute = 11
    changed = await service.update(
        "admin", change, "display_name", "limits.tokens_per_minute", "limits.tokens_per_day"
    )
    assert changed.display_name == "desk"
    assert changed.roles == made.roles, "not in the mask"
    assert changed.limits == pb.Limits(requests_per_minute=5, tokens_per_minute=11)
    assert changed.etag != made.etag
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.update("admin", change, "display_name")
    assert reason(caught.value)[0] == "CONFLICT"
    everything = plain(changed, "etag", "expire_time")
    again = await service.update("admin", everything, "*")
    assert not again.HasField("expire_time")
    assert plain(again, "etag") == everything
    caller = await service.stub(made.secret).GetCaller(service_pb.GetCallerRequest())
    assert caller.limits == pb.Limits(requests_per_minute=5, tokens_per_minute=11, tokens_per_day=0)

    await service.delete("admin", made.name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub(made.secret).GetCaller(service_pb.GetCallerRequest())
    assert reason(caught.value)[0] == "INVALID_CREDENTIALS"
    for call in (
        service.delete("admin", made.name),
        service.update("admin", pb.Key(name=made.name), "display_name"),
        service.stub("admin").GetKey(service_pb.GetKeyRequest(name=made.name)),
        service.delete("admin", "keys/admin"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason(caught.value)[0] == "NOT_FOUND"


async def test_pages_are_newest_first(service: Service) -> None:
    made = [(await service.create(display_name=f"k{n}")).name for n in range(5)]
    seen, token = [], ""
    while True:
        page = await service.stub("admin").ListKeys(
            service_pb.ListKeysRequest(page_size=2, page_token=token)
        )
        assert all(not key.secret and not key.sha256 for key in page.keys)
        seen += [key.name for key in page.keys]
        if not (token := page.next_page_token):
            break
        await service.create(display_name="later")
    assert seen == made[::-1]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub("admin").ListKeys(service_pb.ListKeysRequest(page_token="x"))
    assert reason(caught.value)[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("caller", "fields", "refused"),
    [
        ("user", {}, "PERMISSION_DENIED"),
        ("service", {}, "PERMISSION_DENIED"),
        ("admin", {"roles": [pb.ROLE_ADMIN]}, None),
        ("admin", {"roles": [pb.ROLE_USER, pb.ROLE_SUPERADMIN]}, "PERMISSION_DENIED"),
        ("boss", {"roles": [pb.ROLE_SUPERADMIN]}, None),
        ("acme", {"tenants": ["acme"]}, None),
        ("acme", {}, "PERMISSION_DENIED"),
        ("acme", {"tenants": ["acme", "beta"]}, "PERMISSION_DENIED"),
        ("acme", {"tenants": ["*"]}, "PERMISSION_DENIED"),
        ("admin", {"tenants": ["*"]}, None),
        ("narrow", {}, "PERMISSION_DENIED"),
        ("narrow", {"allowed_models": ["gpt-4", "gpt-5*", "bge"]}, None),
        ("narrow", {"allowed_models": ["bge*"]}, "PERMISSION_DENIED"),
        ("narrow", {"allowed_models": ["g*"]}, "PERMISSION_DENIED"),
    ],
)
async def test_nobody_gives_what_they_dont_have(
    service: Service, caller: str, fields: dict, refused: str | None
) -> None:
    if refused is None:
        made = await service.create(caller, **fields)
        await service.delete(caller, made.name)
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.create(caller, **fields)
    assert reason(caught.value)[0] == refused
    # Nor do they change or revoke it once somebody else made it.
    made = await service.create("boss", **fields)
    for call in (
        service.update(caller, pb.Key(name=made.name, display_name="x"), "display_name"),
        service.delete(caller, made.name),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason(caught.value)[0] == refused


async def test_nobody_raises_a_key_above_themselves(service: Service) -> None:
    made = await service.create(roles=[pb.ROLE_ADMIN], tenants=["*"])
    greater = pb.Key(name=made.name, roles=[pb.ROLE_SUPERADMIN])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.update(made.secret, greater, "roles")
    assert reason(caught.value)[0] == "PERMISSION_DENIED"
    assert (await service.update("boss", greater, "roles")).roles == [pb.ROLE_SUPERADMIN]


@pytest.mark.parametrize(
    ("fields", "paths", "field"),
    [
        ({"roles": []}, None, "key.roles"),
        ({"roles": [pb.ROLE_UNSPECIFIED]}, None, "key.roles[0]"),
        ({"roles": [9]}, None, "key.roles[0]"),
        ({"roles": [pb.ROLE_USER, pb.ROLE_USER]}, None, "key.roles"),
        ({"display_name": "x" * 129}, None, "key.display_name"),
        ({"display_name": "a\0b"}, None, "key.display_name"),
        ({"tenants": ["ok", "a/b"]}, None, "key.tenants[1]"),
        ({"tenants": ["a\nb"]}, None, "key.tenants[0]"),
        ({"allowed_models": ["a*b"]}, None, "key.allowed_models[0]"),
        ({"limits": pb.Limits(tokens_per_day=-1)}, None, "key.limits.tokens_per_day"),
        ({"gel_user": "a b"}, None, "key.gel_user"),
        ({"expire_time": datetime(2020, 1, 1, tzinfo=UTC)}, None, "key.expire_time"),
        ({"roles": []}, ["roles"], "key.roles"),
        ({}, [], "update_mask"),
        ({}, ["name"], "update_mask"),
        ({}, ["gel_user"], "update_mask"),
        ({}, ["limits.rpm"], "update_mask"),
        ({}, ["roles.x"], "update_mask"),
    ],
)
async def test_what_no_key_can_be(
    service: Service, fields: dict, paths: list[str] | None, field: str
) -> None:
    if paths is None:
        call = service.create(**fields)
    else:
        made = await service.create()
        call = service.update("admin", pb.Key(**{"name": made.name, **fields}), *paths)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert reason(caught.value) in (("INVALID_ARGUMENT", field), ("MISSING_FIELD", field))


async def test_users_of_gel_share_a_salt(service: Service) -> None:
    watched = FedKeys()
    secrets = [(await service.create(gel_user="alice")).secret for _ in range(2)]
    async for event in service.stub("service").WatchKeys(service_pb.WatchKeysRequest()):
        hear(event, watched)
        break
    found = [watched.find(digest(secret)) for secret in secrets]
    assert watched.of_gel_user("alice") == found
    salts = {token.verifier.salt for token in found}
    assert len(salts) == 1
    for secret, token in zip(secrets, found, strict=True):
        assert token.verifier == derive(secret, *salts)


async def test_only_services_watch(service: Service) -> None:
    for caller in ("user", "boss"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in service.stub(caller).WatchKeys(service_pb.WatchKeysRequest()):
                pass
        assert reason(caught.value)[0] == "PERMISSION_DENIED"


async def test_a_watch_tells_everything_then_changes(service: Service) -> None:
    first = await service.create()
    watch = service.stub("service").WatchKeys(service_pb.WatchKeysRequest())
    events = aiter(watch)

    async def heard() -> service_pb.WatchKeysEvent:
        async with asyncio.timeout(20):
            while True:
                event = await anext(events)
                if event.WhichOneof("event") != "heartbeat":
                    return event

    snapshot = (await heard()).snapshot
    assert [key.name for key in snapshot.keys] == [first.name]
    assert snapshot.keys[0].sha256 == digest(first.secret)
    second = await service.create()
    assert (await heard()).changed.name == second.name
    await service.update("admin", pb.Key(name=first.name, display_name="new"), "display_name")
    assert (await heard()).changed.display_name == "new"
    await service.delete("admin", first.name)
    assert (await heard()).deleted == first.name
    async with asyncio.timeout(20):
        assert (await anext(events)).HasField("heartbeat")
    watch.cancel()


async def test_two_processes_share_a_database(start, database_url: str) -> None:
    async with start(database_url) as one, start(database_url) as other:
        made = await one.create()
        await eventually(lambda: other.feed.book.find(digest(made.secret)) is not None)
        caller = await other.stub(made.secret).GetCaller(service_pb.GetCallerRequest())
        assert f"keys/{caller.id}" == made.name
        await other.delete("admin", made.name)
        await eventually(lambda: one.feed.book.find(digest(made.secret)) is None)
        names = {
            key.name for key in await asyncio.gather(*(each.create() for each in (one, other) * 8))
        }
        await eventually(lambda: len(one.feed.book) == len(other.feed.book) == len(names) == 16)


async def test_a_watcher_that_lags_gets_everything_again(start, database_url: str) -> None:
    async with start(database_url, max_lag=2) as service:
        end = asyncio.Event()
        events = service.feed.watch(end=end, heartbeat_s=0.01)
        assert (await anext(events)).keys == ()
        made = [await service.create() for _ in range(3)]
        event = await anext(events)
        assert {f"keys/{key.id}" for key in event.keys} == {key.name for key in made}
        end.set()
        await events.aclose()


async def test_followers(start, tmp_path: Path) -> None:
    """A process that follows keys: before ModelService is up, while it is away, and after."""
    url = f"sqlite:///{tmp_path / 'model.db'}"

    async with start(url) as service:
        address = service.server.address
        key, doomed = await service.create(), await service.create()
    sources = TokenSources(api_tokens=("mine",), service_token="service")
    follower = FollowingAuthenticator(sources, address, settings=QUICK)

    def whose(secret: str) -> str:
        return follower.authenticate({"authorization": f"Bearer {secret}"}).id

    def known(secret: str) -> bool:
        try:
            return bool(whose(secret))
        except (InvalidCredentials, Unavailable):
            return False

    async with follower:
        # Nobody has told which keys there are: what may be one is not said to be wrong.
        for secret in (key.secret, "pnstk_wrong", "pst_x.y"):
            with pytest.raises(Unavailable, match="can't be checked yet"):
                whose(secret)
        assert whose("mine").startswith("api-token-")
        with pytest.raises(InvalidCredentials):
            whose("wrong")
        async with start(url, address=address) as service:
            await eventually(lambda: known(key.secret))
            assert f"keys/{whose(key.secret)}" == key.name
            with pytest.raises(InvalidCredentials):
                whose("pnstk_wrong")
            await service.delete("admin", doomed.name)
            await eventually(lambda: not known(doomed.secret))
        # It is away: what was heard stays in force.
        assert known(key.secret)
        assert not known(doomed.secret)
        async with start(url, address=address) as service:
            made = await service.create()
            await eventually(lambda: known(made.secret))

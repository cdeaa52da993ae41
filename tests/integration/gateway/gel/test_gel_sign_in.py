"""SCRAM-SHA-256 at `/auth/token`, against an independent client, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scramp import ScramClient, ScramException

from gateway.dialects.gel import sign_in
from policy.principals import Role
from policy.token_file import TokenFile
from policy.token_store import TokenSources
from services.errors import InvalidCredentials
from services.rpc.authentication import CallAuthenticator
from tests.integration.gateway.conftest import TOKEN, Edge
from tests.integration.gateway.gel.gel_edge import RAG, SERVICE, Keys, bearer, rag

PATH = "/auth/token"
CHALLENGE = re.compile(r"SCRAM-SHA-256 sid=([A-Za-z0-9_-]+), data=([A-Za-z0-9+/=]+)")
INFO = re.compile(r"sid=([A-Za-z0-9_-]+), data=([A-Za-z0-9+/=]+)")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def ask(edge: Edge, credential: str | None) -> httpx.Response:
    headers = {} if credential is None else {"authorization": credential}
    async with httpx.AsyncClient(base_url=edge.http.base_url) as http:
        return await http.get(PATH, headers=headers)


class Visit:
    """One client signing in."""

    def __init__(self, edge: Edge, user: str, password: str) -> None:
        self.edge = edge
        self.scram = ScramClient(["SCRAM-SHA-256"], user, password)
        self.sid = ""
        self.challenge = ""

    async def begin(self) -> httpx.Response:
        first = self.scram.get_client_first()
        answer = await ask(self.edge, f"SCRAM-SHA-256 data={b64(first)}")
        assert answer.status_code == 401, answer.text
        match = CHALLENGE.fullmatch(answer.headers["www-authenticate"])
        assert match
        self.sid, self.challenge = match[1], base64.b64decode(match[2]).decode()
        self.scram.set_server_first(self.challenge)
        return answer

    async def finish(self, separator: str = ", ") -> httpx.Response:
        final = self.scram.get_client_final()
        credential = f"SCRAM-SHA-256 sid={self.sid}{separator}data={b64(final)}"
        answer = await ask(self.edge, credential)
        if answer.status_code == 200:
            match = INFO.fullmatch(answer.headers["authentication-info"])
            assert match
            assert match[1] == self.sid
            self.scram.set_server_final(base64.b64decode(match[2]).decode())
        return answer

    async def token(self) -> str:
        await self.begin()
        answer = await self.finish()
        assert answer.status_code == 200, answer.text
        return answer.text


def check_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "SCRAM-SHA-256"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "authentication-info" not in answer.headers


def services(data_dir: Path, service_token: str = SERVICE) -> CallAuthenticator:
    """What the services know of keys, from the same folder."""
    return CallAuthenticator(
        TokenSources(
            api_tokens=(TOKEN,),
            service_token=service_token,
            admin_key_file=data_dir / "admin-key",
            token_file=data_dir / "tokens.json",
        )
    )


@pytest.mark.parametrize(
    ("user", "key", "principal"),
    [
        ("alice", "alice", None),
        ("edgedb", "api", "api-token-f3abf2a6"),
        ("admin", "api", "api-token-f3abf2a6"),
        ("edgedb", "admin", "admin-key"),
        ("admin", "admin", "admin-key"),
    ],
)
async def test_a_password_becomes_a_token(
    edge: Edge, keys: Keys, edge_folder: Path, user: str, key: str, principal: str | None
) -> None:
    password = {"alice": keys.alice, "api": TOKEN, "admin": keys.admin}[key]
    token = await Visit(edge, user, password).token()
    assert token.startswith("pst_")
    headers = bearer(token) | {"X-EdgeDB-User": user}
    assert (await edge.http.post(RAG, json=rag(), headers=headers)).is_success
    # What the edge passed on is what the services take.
    passed = edge.vectors.retrieval.metadata[-1]["authorization"]
    assert passed == f"Bearer {token}"
    found = services(edge_folder).authenticate({"authorization": passed})
    assert found.id == (principal or keys.alice_id)
    # The other dialects take it as well.
    assert (await edge.http.get("/v1/models", headers=bearer(token))).is_success


async def test_gels_own_test_sends_no_comma(edge: Edge, keys: Keys) -> None:
    visit = Visit(edge, "alice", keys.alice)
    await visit.begin()
    assert (await visit.finish(" ")).status_code == 200


async def test_two_keys_of_one_user_are_both_good(edge: Edge, keys: Keys) -> None:
    _, second = keys.file.create("other", [Role.USER], gel_user="alice")
    for password in (keys.alice, second):
        assert await Visit(edge, "alice", password).token()
    _, third = keys.file.create("boss", [Role.USER], gel_user="admin")
    for password in (third, TOKEN, keys.admin):
        assert await Visit(edge, "admin", password).token()


@pytest.mark.parametrize(
    ("user", "key"), [("alice", "wrong"), ("nobody", "wrong"), ("bob", "alice"), ("alice", "api")]
)
async def test_wrong_proofs(edge: Edge, keys: Keys, user: str, key: str) -> None:
    password = {"alice": keys.alice, "api": TOKEN, "wrong": "wrong"}[key]
    visit = Visit(edge, user, password)
    await visit.begin()
    answer = await visit.finish()
    check_refused(answer)
    assert answer.text == "Authentication failed"


async def test_nobody_learns_who_exists(edge: Edge, keys: Keys) -> None:
    challenges: dict[str, set[str]] = {}
    for user in ("alice", "nobody", "else", "edgedb"):
        for _ in range(2):
            visit = Visit(edge, user, "x")
            await visit.begin()
            challenges.setdefault(user, set()).add(visit.challenge.partition(",")[2])
    # Everybody has a salt, always the same one, and the same work to do.
    assert all(len(found) == 1 for found in challenges.values())
    salts = [next(iter(found)) for found in challenges.values()]
    assert len(set(salts)) == len(salts)
    assert all(re.fullmatch(r"s=[A-Za-z0-9+/]{22}==,i=4096", salt) for salt in salts)


async def test_a_session_is_good_once(edge: Edge, keys: Keys) -> None:
    visit = Visit(edge, "alice", keys.alice)
    await visit.begin()
    final = visit.scram.get_client_final()
    credential = f"SCRAM-SHA-256 sid={visit.sid}, data={b64(final)}"
    assert (await ask(edge, credential)).status_code == 200
    check_refused(await ask(edge, credential))
    check_refused(await ask(edge, credential.replace(visit.sid, "unknown")))


async def test_a_session_does_not_take_anothers_proof(edge: Edge, keys: Keys) -> None:
    first, second = (Visit(edge, "alice", keys.alice) for _ in range(2))
    await first.begin()
    await second.begin()
    first.sid, second.sid = second.sid, first.sid
    check_refused(await first.finish())


async def test_a_session_ends(edge: Edge, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    visit = Visit(edge, "alice", keys.alice)
    await visit.begin()
    monkeypatch.setattr(sign_in, "_SESSION_S", -1.0)
    check_refused(await visit.finish())


async def test_sessions_are_bounded(
    edge: Edge, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "_MOST_SESSIONS", 2)
    visits = [Visit(edge, "alice", keys.alice) for _ in range(3)]
    for visit in visits:
        await visit.begin()
    check_refused(await visits[0].finish())
    assert (await visits[1].finish()).status_code == 200
    assert (await visits[2].finish()).status_code == 200


async def test_a_revoked_key_ends_its_tokens(edge: Edge, keys: Keys, edge_folder: Path) -> None:
    token = await Visit(edge, "alice", keys.alice).token()
    during = Visit(edge, "alice", keys.alice)
    await during.begin()
    known = services(edge_folder)
    assert known.authenticate({"authorization": f"Bearer {token}"}).id == keys.alice_id
    keys.file.revoke(keys.alice_id)
    check_refused(await during.finish())
    assert (await edge.http.post(RAG, json=rag(), headers=bearer(token))).status_code == 401
    with pytest.raises(InvalidCredentials):
        services(edge_folder).authenticate({"authorization": f"Bearer {token}"})


async def test_services_with_another_service_token_take_none(
    edge: Edge, keys: Keys, edge_folder: Path
) -> None:
    token = await Visit(edge, "alice", keys.alice).token()
    for other in ("other", ""):
        with pytest.raises(InvalidCredentials):
            services(edge_folder, other).authenticate({"authorization": f"Bearer {token}"})


class TestWithoutAServiceToken:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {}

    async def test_it_is_said_why(self, edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
        first = ScramClient(["SCRAM-SHA-256"], "edgedb", TOKEN).get_client_first()
        check_refused(await ask(edge, f"SCRAM-SHA-256 data={b64(first)}"))
        assert "PENSTOCK_SERVICE_TOKEN" in caplog.text


@pytest.mark.parametrize("credential", [None, "Bearer x", "Basic eDp4", "SCRAM-SHA-512 data=eA=="])
async def test_other_schemes(edge: Edge, credential: str | None) -> None:
    check_refused(await ask(edge, credential))


async def test_other_methods(edge: Edge) -> None:
    answer = await edge.http.post(PATH)
    assert (answer.status_code, answer.text) == (405, "Invalid request method")
    assert answer.headers["allow"] == "GET"


def first(text: str) -> str:
    return "data=" + base64.b64encode(text.encode("latin-1")).decode()


@pytest.mark.parametrize(
    "attributes",
    [
        "x",
        "sid=x",
        "data",
        "data=!",
        "data=a",
        "data=eA==, data=eA==",
        "data=eA== junk",
        'data="eA==',
        first("n,,"),
        first("n,,n=a"),
        first("n,,r=abc"),
        first("n,,n=,r=abc"),
        first("n,,n=a,r="),
        first("n,,n=a=3,r=abc"),
        first("n,,n=a,r=abc,extra"),
        first("n,,n=a,r=ab\0c"),
        first("n,,n=a,r=\xff"),
        first("n,,m=x,n=a,r=abc"),
        first("n,a=b,n=a,r=abc"),
        first("p=tls-unique,,n=a,r=abc"),
        first("n,,n=a,r=" + "x" * 257),
        first("n,,n=" + "x" * 257 + ",r=abc"),
        first("n,,n=a,r=" + "x" * 2100),
        first("n,,n=\xc3\x83\xc2\xa0\xf0\x9f\x99\x82,r=abc"),
    ],
)
async def test_malformed_first_messages(edge: Edge, attributes: str) -> None:
    answer = await ask(edge, f"SCRAM-SHA-256 {attributes}")
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda final: final.replace("c=biws", "c=eSws"), 400),
        (lambda final: final.replace("c=biws,", ""), 400),
        (lambda final: final.rpartition(",p=")[0], 400),
        (lambda final: final + "x", 400),
        (lambda final: final[:-8] + "====", 400),
        (lambda final: final.replace(",r=", ",r=x"), 401),
        (lambda final: final.rpartition(",p=")[0] + ",p=" + b64("x" * 32), 401),
        (lambda final: final.rpartition(",p=")[0] + ",p=" + b64("x" * 31), 400),
    ],
)
async def test_malformed_last_messages(edge: Edge, keys: Keys, change: object, status: int) -> None:
    visit = Visit(edge, "alice", keys.alice)
    await visit.begin()
    assert callable(change)
    final = change(visit.scram.get_client_final())
    answer = await ask(edge, f"SCRAM-SHA-256 sid={visit.sid}, data={b64(final)}")
    assert answer.status_code == status, answer.text
    check_refused(await ask(edge, f"SCRAM-SHA-256 sid={visit.sid}, data={b64(final)}"))


@pytest.mark.parametrize("name", ["a,b=c", "größe", "I\u00adX"])
async def test_names_that_need_preparing(
    edge: Edge, keys: Keys, edge_folder: Path, name: str
) -> None:
    """Such names come into the file by hand only; what was prepared is what is compared."""
    entry, secret = keys.file.create("x", [Role.USER], gel_user="placeholder")
    path = edge_folder / "tokens.json"
    prepared = name.replace("\u00ad", "")
    path.write_text(path.read_text().replace('"placeholder"', f'"{prepared}"'))
    assert TokenFile(path).list()[-1].id == entry.id
    assert await Visit(edge, name, secret).token()


async def test_clients_may_pipeline(edge: Edge, keys: Keys) -> None:
    visits = [Visit(edge, "alice", keys.alice) for _ in range(3)]
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    for visit in visits:
        data = b64(visit.scram.get_client_first())
        head = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: SCRAM-SHA-256 data={data}\r\n\r\n"
        writer.write(head.encode())
    for visit in visits:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
        assert head.startswith("HTTP/1.1 401")
        match = CHALLENGE.search(head)
        assert match
        visit.sid = match[1]
        visit.scram.set_server_first(base64.b64decode(match[2]).decode())
    writer.close()
    for visit in visits:
        assert (await visit.finish()).status_code == 200


async def test_the_server_proves_itself(edge: Edge, keys: Keys) -> None:
    visit = Visit(edge, "alice", keys.alice)
    await visit.begin()
    answer = await ask(
        edge, f"SCRAM-SHA-256 sid={visit.sid}, data={b64(visit.scram.get_client_final())}"
    )
    match = INFO.fullmatch(answer.headers["authentication-info"])
    assert match
    final = base64.b64decode(match[2]).decode()
    forged = "v=" + b64("x" * 32)
    with pytest.raises(ScramException):
        visit.scram.set_server_final(forged)
    assert final != forged


TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=60)
MESSAGE = st.one_of(TEXT, st.builds("n,,n={},r={}".format, TEXT, TEXT)).map(first)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(attributes=MESSAGE | TEXT | st.builds("sid={}, {}".format, TEXT, MESSAGE))
async def test_whatever_comes(edge: Edge, attributes: str) -> None:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: SCRAM-SHA-256 {attributes}\r\n\r\n"
    writer.write(request.encode("latin-1"))
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert int(head.split()[1]) in (400, 401), head
    writer.close()
    await writer.wait_closed()

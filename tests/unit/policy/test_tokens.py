"""Tokens: where they come from, whose they are, and when they end."""

import json
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from policy import token_store
from policy.key_secrets import digest, make_token
from policy.principals import Principal, Role
from policy.token_entries import TokenFileError
from policy.token_file import TokenFile, ensure_admin_key
from policy.token_store import TokenSources
from services.errors import InvalidCredentials, MissingCredentials, PermissionDenied
from services.rpc.access import require
from services.rpc.authentication import CallAuthenticator, Identities


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "_RECHECK_S", 0.0)


def test_every_source_gives_its_role(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    entry, secret = file.create("laptop", [Role.TRAINER, Role.MODEL_MANAGER])
    admin, made = ensure_admin_key(tmp_path)
    assert made
    store = CallAuthenticator(
        TokenSources(
            api_tokens=("one", " two ", "", "  "),
            api_key="key",
            service_token="inside",
            admin_key_file=tmp_path / "admin-key",
            token_file=tmp_path / "tokens.json",
        )
    )
    for token, id_, roles in (
        ("one", "api-token-7692c3ad", {Role.USER}),
        ("two", "api-token-3fc4ccfe", {Role.USER}),
        ("key", "api-key", {Role.USER}),
        ("inside", "service", {Role.SERVICE}),
        (admin, "admin-key", {Role.ADMIN}),
        (secret, entry.id, {Role.TRAINER, Role.MODEL_MANAGER}),
    ):
        principal = store.authenticate(bearer(token))
        assert (principal.id, principal.roles) == (id_, roles)
    for wrong in ("", "three", "one ,two", secret[:-1], digest("one")):
        with pytest.raises((InvalidCredentials, MissingCredentials)):
            store.authenticate(bearer(wrong))


def test_pairs_and_mappings_are_read_alike() -> None:
    store = CallAuthenticator(TokenSources(api_tokens=("one",)))
    pairs = (("user-agent", "x"), ("authorization", "bEaReR one"), ("bytes-bin", b"\0"))
    assert store.authenticate(pairs) == store.authenticate({"x-api-key": "one"})


def test_a_token_of_odd_characters_is_just_wrong() -> None:
    store = CallAuthenticator(TokenSources(api_tokens=("one",)))
    for odd in ("ünïcode", "\udcff", "a\0b", "x" * 100_000):
        with pytest.raises(InvalidCredentials):
            store.authenticate(bearer(odd))


def test_without_a_credential_it_depends() -> None:
    with pytest.raises(MissingCredentials):
        CallAuthenticator(TokenSources(api_tokens=("one",))).authenticate(())
    relaxed = CallAuthenticator(
        TokenSources(api_tokens=("one",)), more=Identities(require_auth=False)
    )
    anonymous = relaxed.authenticate(())
    assert (anonymous.id, anonymous.roles) == ("anonymous", {Role.USER})
    with pytest.raises(InvalidCredentials):
        relaxed.authenticate(bearer("wrong"))


def test_no_token_at_all_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    CallAuthenticator(TokenSources(), more=Identities(require_auth=False))
    assert not caplog.records
    CallAuthenticator(TokenSources())
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    store = CallAuthenticator(TokenSources(token_file=path, admin_key_file=tmp_path / "admin-key"))
    entry, secret = file.create("a", [Role.USER])
    assert store.authenticate(bearer(secret)).id == entry.id
    file.revoke(entry.id)
    with pytest.raises(InvalidCredentials):
        store.authenticate(bearer(secret))
    admin, _ = ensure_admin_key(tmp_path)
    assert store.authenticate(bearer(admin)).roles == {Role.ADMIN}
    (tmp_path / "admin-key").unlink()
    with pytest.raises(InvalidCredentials):
        store.authenticate(bearer(admin))


def test_the_file_is_looked_at_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_store, "_RECHECK_S", 3600.0)
    file = TokenFile(tmp_path / "tokens.json")
    store = CallAuthenticator(TokenSources(api_key="k", token_file=tmp_path / "tokens.json"))
    entry, secret = file.create("a", [Role.USER])
    assert store.authenticate(bearer(secret)).id == entry.id, "a new key is good at once"
    file.revoke(entry.id)
    assert store.authenticate(bearer(secret)).id == entry.id


def test_a_file_broken_later_locks_nobody_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    _, secret = TokenFile(path).create("a", [Role.USER])
    store = CallAuthenticator(TokenSources(token_file=path))
    path.write_text("{")
    for _ in range(3):
        assert store.authenticate(bearer(secret)).name == "a"
    assert len(caplog.records) == 1
    assert "stay in force" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must look like"),
        ('{"tokens": {}}', "must look like"),
        ('{"tokens": [1]}', "must look like"),
        ('{"tokens": [{"sha256": "x", "roles": ["user"]}]}', "token 1: 'sha256'"),
        (f'{{"tokens": [{{"sha256": "{"0" * 64}", "roles": []}}]}}', "'roles'"),
        (f'{{"tokens": [{{"sha256": "{"0" * 64}", "roles": ["root"]}}]}}', "unknown role 'root'"),
        (
            f'{{"tokens": [{{"sha256": "{"0" * 64}", "roles": ["user"], "expires_at": "soon"}}]}}',
            "'expires_at'",
        ),
    ],
)
def test_a_file_broken_at_the_start_is_a_clear_error(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(TokenFileError, match=said):
        CallAuthenticator(TokenSources(token_file=path))


def test_a_token_ends(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    now = datetime.now(UTC)
    _, old = file.create("old", [Role.USER], expires_at=now - timedelta(seconds=1))
    _, new = file.create("new", [Role.USER], expires_at=now + timedelta(hours=1))
    store = CallAuthenticator(TokenSources(token_file=tmp_path / "tokens.json"))
    assert store.authenticate(bearer(new)).name == "new"
    with pytest.raises(InvalidCredentials):
        store.authenticate(bearer(old))


def test_the_file_keeps_no_token_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tokens.json"
    file = TokenFile(path)
    entry, secret = file.create("laptop", [Role.USER, Role.USER])
    assert secret.startswith("pnstk_")
    assert len(secret) == 46
    assert secret[6:].isalnum()
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["tokens"][0] == {
        "id": entry.id,
        "sha256": digest(secret),
        "name": "laptop",
        "roles": ["user"],
        "created_at": entry.created_at,
    }
    assert sorted(os.listdir(path.parent)) == ["tokens.json", "tokens.json.lock"]


def test_listing_and_revoking(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    assert file.list() == []
    first, _ = file.create("a", [Role.USER])
    second, _ = file.create("b", [Role.ADMIN])
    assert file.list() == [first, second]
    assert file.revoke(first.id) == first
    assert file.list() == [second]
    with pytest.raises(KeyError):
        file.revoke(first.id)
    with pytest.raises(ValueError, match="needs a role"):
        file.create("c", [])
    with pytest.raises(ValueError, match="PENSTOCK_SERVICE_TOKEN"):
        file.create("c", [Role.SERVICE])


def test_what_others_wrote_into_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    item = {"id": "x", "sha256": "0" * 64, "name": "x", "roles": ["user"], "rpm": 7}
    path.write_text(json.dumps({"note": "mine", "tokens": [item]}))
    TokenFile(path).create("a", [Role.USER])
    document = json.loads(path.read_text())
    assert (document["note"], document["tokens"][0]) == ("mine", item)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: TokenFile(path).create(f"t{n}", [Role.USER]), range(24)))
    assert {entry.id for entry, _ in made} == {entry.id for entry in TokenFile(path).list()}


def test_the_admin_key_is_made_once(tmp_path: Path) -> None:
    key, made = ensure_admin_key(tmp_path / "data")
    assert made
    assert ensure_admin_key(tmp_path / "data") == (key, False)
    assert stat.S_IMODE((tmp_path / "data" / "admin-key").stat().st_mode) == 0o600
    assert make_token() != make_token()


@pytest.mark.parametrize(
    ("role", "held"),
    [
        (Role.USER, {Role.USER}),
        (Role.MODEL_MANAGER, {Role.USER, Role.MODEL_MANAGER}),
        (Role.TRAINER, {Role.USER, Role.TRAINER}),
        (Role.ADMIN, {Role.USER, Role.MODEL_MANAGER, Role.TRAINER, Role.ADMIN}),
        (Role.SUPERADMIN, set(Role) - {Role.SERVICE}),
        (Role.SERVICE, {Role.USER, Role.SERVICE}),
    ],
)
def test_roles_hold_lesser_ones(role: Role, held: set[Role]) -> None:
    principal = Principal("id", "name", frozenset({role}))
    assert {each for each in Role if principal.holds(each)} == held
    for each in Role:
        if each in held:
            require(principal, each)
        else:
            with pytest.raises(PermissionDenied, match=each.value):
                require(principal, each)


def test_tenants(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")
    _, plain = file.create("plain", [Role.ADMIN])
    _, some = file.create("some", [Role.USER], tenants=["acme", "b c", "acme"])
    _, every = file.create("every", [Role.USER], tenants=["*"])
    admin, _ = ensure_admin_key(tmp_path)
    store = CallAuthenticator(
        TokenSources(
            api_tokens=("one",),
            service_token="service",
            admin_key_file=tmp_path / "admin-key",
            token_file=tmp_path / "tokens.json",
        )
    )
    assert {key: store.authenticate(bearer(key)).tenants for key in (plain, some, "one")} == {
        plain: ("default",),
        some: ("acme", "b c"),
        "one": ("default",),
    }
    for key in (every, admin, "service"):
        assert store.authenticate(bearer(key)).may_enter("acme")
        assert store.authenticate(bearer(key)).may_enter("default")
    principal = store.authenticate(bearer(some))
    assert [principal.may_enter(t) for t in ("acme", "default", "*")] == [True, False, False]
    assert json.loads((tmp_path / "tokens.json").read_text())["tokens"][1]["tenants"] == [
        "acme",
        "b c",
    ]
    assert Principal("i", "n", frozenset({Role.USER})).tenants == ("default",)


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 129])
def test_names_that_no_tenant_has(tmp_path: Path, name: str) -> None:
    path = tmp_path / "tokens.json"
    with pytest.raises(ValueError, match="tenant"):
        TokenFile(path).create("a", [Role.USER], tenants=[name])
    item = {"sha256": "0" * 64, "roles": ["user"], "tenants": [name]}
    path.write_text(json.dumps({"tokens": [item]}))
    with pytest.raises(TokenFileError, match="'tenants'"):
        TokenFile(path).list()


@pytest.mark.parametrize("tenants", ["acme", 5, {"a": 1}, [5]])
def test_tenants_are_a_list_of_names(tmp_path: Path, tenants: object) -> None:
    path = tmp_path / "tokens.json"
    item = {"sha256": "0" * 64, "roles": ["user"], "tenants": tenants}
    path.write_text(json.dumps({"tokens": [item]}))
    with pytest.raises(TokenFileError, match="'tenants'"):
        TokenFile(path).list()


def test_a_user_of_gel_has_a_verifier(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    entry, secret = TokenFile(path).create("a", [Role.USER], gel_user="alice")
    assert TokenFile(path).list() == [entry]
    assert entry.scram.startswith("SCRAM-SHA-256$4096:")
    assert secret not in path.read_text()
    assert entry.scram not in repr(entry)
    again, _ = TokenFile(path).create("b", [Role.USER], gel_user="alice")
    salt = entry.scram.partition(":")[2].partition("$")[0]
    assert again.scram.startswith(f"SCRAM-SHA-256$4096:{salt}$")
    assert again.scram != entry.scram
    other, _ = TokenFile(path).create("c", [Role.USER], gel_user="bob")
    assert salt not in other.scram
    for name in ("a:b", "a b", "x" * 65, "größe"):
        with pytest.raises(ValueError, match="user of Gel"):
            TokenFile(path).create("d", [Role.USER], gel_user=name)

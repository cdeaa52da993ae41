from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest

from gateway.auth import Authenticator
from gateway.batch_owners import BatchOwners
from gateway.errors import ProblemError
from gateway.settings import ApiSettings, Settings
from policy import token_store
from policy.principals import Principal, Role
from policy.token_entries import TokenFileError


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_store, "_RECHECK_S", 0.0)


def entry(token: str, **fields: object) -> dict[str, object]:
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    return {"id": "t1", "sha256": sha256, "name": "n", "roles": ["trainer"], **fields}


def write(path: Path, *entries: object) -> None:
    path.write_text(json.dumps({"tokens": list(entries)}))


def authenticator(tmp_path: Path, **api: object) -> Authenticator:
    return Authenticator(
        Settings(
            api=ApiSettings(api_key="api-key", **api),  # type: ignore[arg-type]
            data_dir=tmp_path,
            api_tokens=("one", "two"),
            service_token="service",
        )
    )


@pytest.mark.parametrize(
    ("header", "principal", "role"),
    [
        ("Bearer one", "api-token-7692c3ad", "user"),
        ("bearer  two ", "api-token-3fc4ccfe", "user"),
        ("BEARER api-key", "api-key", "user"),
        ("Bearer service", "service", "service"),
    ],
)
def test_fixed_tokens(tmp_path: Path, header: str, principal: str, role: str) -> None:
    found, travels = authenticator(tmp_path).authenticate(header)
    assert found.id == principal
    assert found.roles == {role}
    assert travels == f"Bearer {header.split()[1]}"


@pytest.mark.parametrize(
    "header", ["Bearer three", "Basic one", "one", "Bearer", "Bearer one two", "Bearer ä"]
)
def test_wrong_credentials(tmp_path: Path, header: str) -> None:
    with pytest.raises(ProblemError) as caught:
        authenticator(tmp_path).authenticate(header)
    assert caught.value.problem.reason == "INVALID_CREDENTIALS"
    assert "three" not in caught.value.problem.message


@pytest.mark.parametrize("header", [None, ""])
def test_no_credentials(tmp_path: Path, header: str | None) -> None:
    with pytest.raises(ProblemError) as caught:
        authenticator(tmp_path).authenticate(header)
    assert caught.value.problem.reason == "MISSING_CREDENTIALS"


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic x"])
def test_nothing_is_required(tmp_path: Path, header: str | None) -> None:
    found, travels = authenticator(tmp_path, require_auth=False).authenticate(header)
    assert found.id == "anonymous"
    assert travels is None


def test_files_are_read_again(tmp_path: Path) -> None:
    store = authenticator(tmp_path)
    path = tmp_path / "tokens.json"
    write(path, entry("first"))
    assert store.authenticate("Bearer first")[0].roles == {"trainer"}
    write(path, entry("another"))
    assert store.authenticate("Bearer another")[0].roles == {"trainer"}
    with pytest.raises(ProblemError):
        store.authenticate("Bearer first")
    path.unlink()
    (tmp_path / "admin-key").write_text("boss\n")
    with pytest.raises(ProblemError):
        store.authenticate("Bearer another")
    found, _ = store.authenticate("Bearer boss")
    assert found.roles == {"admin"}


def test_a_broken_file_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens.json"
    write(path, entry("secret"))
    store = authenticator(tmp_path)
    for broken in ("{", "[]", '{"tokens": 5}', '{"tokens": [5]}', '{"tokens": [{"sha256": "x"}]}'):
        path.write_text(broken)
        assert store.authenticate("Bearer secret")[0].id == "t1"
        assert "stay in force" in caplog.text
        assert "secret" not in caplog.text
        caplog.clear()


def test_tokens_expire(tmp_path: Path) -> None:
    write(
        tmp_path / "tokens.json",
        entry("old", expires_at="2020-01-01T00:00:00+00:00"),
        entry("new", expires_at="2999-01-01T00:00:00"),
    )
    store = authenticator(tmp_path)
    assert store.authenticate("Bearer new")[0].id == "t1"
    with pytest.raises(ProblemError):
        store.authenticate("Bearer old")


def test_no_token_at_all_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        store = Authenticator(Settings(data_dir=tmp_path))
    assert "No token is configured" in caplog.text
    with pytest.raises(ProblemError):
        store.authenticate("Bearer x")


def test_tenants_and_users_of_gel(tmp_path: Path) -> None:
    write(
        tmp_path / "tokens.json",
        entry("plain"),
        entry("some", id="t2", tenants=["acme", "beta"], gel_user="alice"),
        entry("all", id="t3", tenants=["*"]),
    )
    (tmp_path / "admin-key").write_text("boss\n")
    store = authenticator(tmp_path)

    def enters(token: str, tenant: str) -> bool:
        return store.authenticate(f"Bearer {token}")[0].may_enter(tenant)

    assert [enters("plain", t) for t in ("default", "acme", "*")] == [True, False, False]
    assert [enters("some", t) for t in ("default", "acme", "beta")] == [False, True, True]
    for everywhere in ("all", "boss", "service"):
        assert enters(everywhere, "acme")
        assert enters(everywhere, "default")
    assert enters("one", "default")
    assert not enters("one", "acme")
    assert store.tokens.names_tenant("beta")
    assert not store.tokens.names_tenant("*")
    assert store.identify("some").gel_user == "alice"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fields",
    [{"tenants": "acme"}, {"gel_user": 5}, {"gel_user": "a", "scram": "x"}],
)
def test_fields_of_a_token_that_are_broken(tmp_path: Path, fields: dict[str, object]) -> None:
    write(tmp_path / "tokens.json", entry("secret", **fields))
    with pytest.raises(TokenFileError, match="token 1: '"):
        authenticator(tmp_path)


@pytest.mark.parametrize(("tenants", "may"), [(1, True), (400, False)])
def test_who_signed_in_may_own_batches_if_a_token_holds_what_they_are(
    tmp_path: Path, tenants: int, may: bool
) -> None:
    names = tuple(f"tenant-{number:020}" for number in range(tenants))
    signed_in = Principal("jwt:alice", "Alice", frozenset({Role.USER}), tenants=names)
    assert BatchOwners(authenticator(tmp_path)).may_own(signed_in) is may

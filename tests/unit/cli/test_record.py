import os
import stat
from pathlib import Path

import pytest

from services.cli.record import (
    DirectoryInUseError,
    DirectoryLock,
    Record,
    ensure_service_token,
    read_record,
    remove_record,
)
from services.cli.target import Choices, find_target

RECORD = Record(
    url="http://127.0.0.1:8080",
    state="ready",
    addresses={"model": "127.0.0.1:1", "inference": "127.0.0.1:2"},
    pids={"supervisor": 5, "model": 6},
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def test_only_one_supervisor_has_a_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUseError, match=str(os.getpid())):
        DirectoryLock(tmp_path)
    lock.release()
    DirectoryLock(tmp_path).release()


def test_a_record_counts_while_its_supervisor_lives(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    lock = DirectoryLock(tmp_path)
    RECORD.write(tmp_path)
    assert read_record(tmp_path) == RECORD
    lock.release()  # as when it was killed
    assert read_record(tmp_path) is None
    remove_record(tmp_path)
    remove_record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["serve.lock"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1, "state": 1, "addresses": 3}', "\xff"])
def test_a_broken_record_is_none(tmp_path: Path, text: str) -> None:
    lock = DirectoryLock(tmp_path)
    (tmp_path / "serve.json").write_text(text, encoding="latin-1")
    assert read_record(tmp_path) is None
    lock.release()


def test_the_service_token_is_made_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    token = ensure_service_token(tmp_path)
    assert len(token) > 40
    assert ensure_service_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "service-token").stat().st_mode) == 0o600


def test_target_without_anything_is_the_defaults(tmp_path: Path) -> None:
    target = find_target(Choices())
    assert target.model_address == "127.0.0.1:50051"
    assert target.inference_address == "127.0.0.1:50052"
    assert target.api_key == ""
    assert target.data_dir == tmp_path / ".penstock"


def test_target_follows_the_running_supervisor(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    RECORD.write(tmp_path)
    (tmp_path / "admin-key").write_text("secret\n")
    target = find_target(Choices(data_dir=tmp_path))
    lock.release()
    assert (target.model_address, target.inference_address) == ("127.0.0.1:1", "127.0.0.1:2")
    assert target.api_key == "secret"
    assert "secret" not in repr(target)


def test_target_options_win_over_settings_and_settings_over_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = DirectoryLock(tmp_path)
    RECORD.write(tmp_path)
    (tmp_path / "admin-key").write_text("secret\n")
    monkeypatch.setenv("PENSTOCK_SERVICES_MODEL_ADDRESS", "10.0.0.1:3")
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path))
    target = find_target(Choices(inference_address="10.0.0.2:4", api_key="mine"))
    lock.release()
    assert (target.model_address, target.inference_address) == ("10.0.0.1:3", "10.0.0.2:4")
    assert target.api_key == "mine"


def test_target_takes_the_configured_key_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_API_API_KEY", "configured")
    assert find_target(Choices(data_dir=tmp_path)).api_key == "configured"
    (tmp_path / "admin-key").write_text("secret\n")
    assert find_target(Choices(data_dir=tmp_path)).api_key == "secret"

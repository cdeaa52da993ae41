"""What `penstock serve` refuses before it starts anything."""

import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from services.cli.main import main
from services.cli.record import DirectoryLock, Record


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def serve(data_dir: Path, *words: str) -> Result:
    result = CliRunner().invoke(main, ["serve", "--data-dir", str(data_dir), *words])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    return result


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = serve(tmp_path, "--port", str(port))
    assert f"127.0.0.1:{port}" in result.stderr
    assert "penstock serve --port" in result.stderr
    assert not (tmp_path / "admin-key").exists(), "nothing was begun"


def test_a_host_of_somebody_else(tmp_path: Path) -> None:
    assert "192.0.2.1:8080" in serve(tmp_path, "--host", "192.0.2.1").stderr


def test_a_second_supervisor(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    Record("http://127.0.0.1:1", "ready", {}, {"supervisor": os.getpid()}).write(tmp_path)
    result = serve(tmp_path)
    lock.release()
    assert f"process {os.getpid()}" in result.stderr
    assert "http://127.0.0.1:1" in result.stderr


def test_a_wrong_configuration(tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").write_text("[services.inference]\nengin = 'echo'\n")
    assert "did you mean 'engine'" in serve(tmp_path / "data").stderr
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = serve(tmp_path / "file" / "data")
    assert "can't be used" in result.stderr

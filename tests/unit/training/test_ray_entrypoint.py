"""The command that Ray gives to a shell, given to one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.training.trainers.ray_ends import FOLDER_MISSING
from services.training.trainers.ray_entrypoint import (
    WorkerCommand,
    entrypoint,
    log_of,
    wanted_file,
)

ID = "penstock-ftjob-1-1"
TELL = "import os, sys; print(sys.argv[1:], os.getpid(), sys.flags.safe_path); sys.exit(7)"
COMMAND = WorkerCommand(python=sys.executable, worker=("-c", TELL))


def _run(command: str) -> subprocess.Popen[str]:
    shell = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, text=True)
    shell.communicate(timeout=60)
    return shell


@pytest.mark.parametrize(
    "name", ["plain", "with space", "quote ' \" quote", "$(touch hacked); `id` & \\", "-x", "ü\n2"]
)
def test_the_shell_becomes_the_worker(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    wanted_file(folder).write_text(ID)

    shell = _run(entrypoint(COMMAND, folder, 12, ID))

    assert shell.returncode == 7
    assert log_of(folder, ID).strip() == f"{[str(folder), '12']} {shell.pid} True"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_does_not_depend_on_where_the_shell_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("jobs")
    folder.mkdir()
    wanted_file(folder).write_text(ID)
    command = entrypoint(COMMAND, folder, 1, ID)
    monkeypatch.chdir("/")
    assert _run(command).returncode == 7


@pytest.mark.parametrize("wanted", [None, "", "penstock-ftjob-1-2"])
def test_what_is_not_wanted_any_more_does_not_train(tmp_path: Path, wanted: str | None) -> None:
    if wanted is not None:
        wanted_file(tmp_path).write_text(wanted)
    assert _run(entrypoint(COMMAND, tmp_path, 1, ID)).returncode == 0
    assert log_of(tmp_path, ID) == ""


def test_a_folder_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    assert _run(entrypoint(COMMAND, tmp_path / "away", 1, ID)).returncode == FOLDER_MISSING


def test_the_log_is_that_of_one_attempt(tmp_path: Path) -> None:
    for id, says in [("one-1", "first"), ("one-2", "second")]:
        wanted_file(tmp_path).write_text(id)
        command = WorkerCommand(python=sys.executable, worker=("-c", f"print({says!r})"))
        assert _run(entrypoint(command, tmp_path, 1, id)).returncode == 0
    assert log_of(tmp_path, "one-2").strip() == "second"
    assert log_of(tmp_path, "one-3") == ""


def test_several_processes_are_launched_on_one_node(tmp_path: Path) -> None:
    several = WorkerCommand(python="python3", processes=4)
    assert several.arguments(tmp_path, 2) == [
        "python3",
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"),
        *("-m", "services.training.worker", str(tmp_path), "2"),
    ]

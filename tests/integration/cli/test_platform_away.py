"""What every command says that needs a platform, where none answers."""

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from services.cli.main import main
from tests.integration.cli.conftest import ENVIRONMENT

NOBODY = "127.0.0.1:1"
MODEL, INFERENCE, RETRIEVAL, IMAGE, TRAINING = (
    *("model", "inference", "retrieval", "image", "training"),
)
AWAY: dict[str, tuple[str, str]] = {
    "chat": (MODEL, "--once hello"),
    "chat -m": (INFERENCE, "starter --once hello"),
    "ask": (RETRIEVAL, "what? -m starter -c books"),
    "image": (IMAGE, "drawing -m painter"),
    "docs load": (RETRIEVAL, "notes.txt -c books"),
    "docs list": (RETRIEVAL, "-c books"),
    "docs show": (RETRIEVAL, "notes.txt -c books"),
    "docs remove": (RETRIEVAL, "notes.txt -c books --yes"),
    "collections list": (RETRIEVAL, ""),
    "collections delete": (RETRIEVAL, "books --yes"),
    "files upload": (TRAINING, "lines.jsonl --purpose batch"),
    "files list": (TRAINING, ""),
    "files get": (TRAINING, "file-1"),
    "files download": (TRAINING, "file-1 -o got"),
    "files remove": (TRAINING, "file-1 --yes"),
    "batches create": (TRAINING, "file-1 --endpoint /v1/chat/completions"),
    "batches list": (TRAINING, ""),
    "batches show": (TRAINING, "batch-1"),
    "batches cancel": (TRAINING, "batch-1"),
    "train start": (TRAINING, "file-1 --base starter"),
    "train watch": (TRAINING, "job-1"),
    "train list": (TRAINING, ""),
    "train status": (TRAINING, "job-1"),
    "train cancel": (TRAINING, "job-1"),
    "train pause": (TRAINING, "job-1"),
    "train resume": (TRAINING, "job-1"),
    "train logs": (TRAINING, "job-1"),
    "train checkpoints": (TRAINING, "job-1"),
    "models list": (MODEL, ""),
    "models get": (MODEL, "starter"),
    "models deploy": (MODEL, "new --source x"),
    "models remove": (MODEL, "starter --yes"),
    "models alias": (MODEL, "starter a"),
    "models config get": (MODEL, "starter"),
    "models config set": (MODEL, "starter max_batch_size=4"),
    "keys create": (MODEL, "laptop"),
    "keys list": (MODEL, ""),
    "keys show": (MODEL, "key-1"),
    "keys update": (MODEL, "key-1 --role user"),
    "keys revoke": (MODEL, "key-1"),
    "usage list": (MODEL, ""),
    "usage sum": (MODEL, "--by model"),
}
"""The service that a command asks first, and what else is written."""
ELSEWHERE = {"serve", "version", "triton export", "status", "health"}
"""Need no platform, or are there to say whether there is one."""


def commands(group: click.Group, *before: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *before, name)
        else:
            yield " ".join((*before, name))


def test_every_command_is_tried() -> None:
    assert set(commands(main)) == {name.removesuffix(" -m") for name in AWAY} | ELSEWHERE


def away(folder: Path, monkeypatch: pytest.MonkeyPatch, words: str) -> Result:
    """Runs a command in a folder that has what it reads, with nobody at any address."""
    monkeypatch.chdir(folder)
    (folder / "notes.txt").write_text("The sky on Mars is red.")
    (folder / "lines.jsonl").write_text('{"messages": []}\n')
    addresses = [
        word
        for service in (MODEL, INFERENCE, RETRIEVAL, IMAGE, TRAINING)
        for word in (f"--{service}-address", NOBODY)
    ]
    options = ["--data-dir", str(folder / "data"), *addresses]
    return CliRunner().invoke(main, [*words.split(), *options], env=ENVIRONMENT)


@pytest.mark.parametrize("command", AWAY)
def test_a_platform_that_is_away_is_one_clear_error(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, more = AWAY[command]
    result = away(tmp_path, monkeypatch, f"{command} {more}")
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    said, hint = result.stderr.splitlines()
    assert said == f"Error: Can't reach the {service} service at {NOBODY}."
    assert f"Start Penstock with `penstock serve`, or name another address with --{service}" in hint


@pytest.mark.parametrize("command", ["models deploy", "keys create", "docs load"])
def test_the_same_for_scripts(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, more = AWAY[command]
    result = away(tmp_path, monkeypatch, f"{command} {more} --json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "UNAVAILABLE"
    assert error["message"] == f"Can't reach the {service} service at {NOBODY}."


def test_health_says_that_nobody_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text(f'[services.model]\naddress = "{NOBODY}"\n')
    result = CliRunner().invoke(main, ["health", "model"], env=ENVIRONMENT)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("model: ")


def test_version_needs_nobody() -> None:
    installed = metadata.version("penstock")
    shown = CliRunner().invoke(main, ["version"], env=ENVIRONMENT)
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"penstock {installed} · python 3.")
    assert len(shown.stdout.splitlines()) == 1
    listed = CliRunner().invoke(main, ["version", "--json"], env=ENVIRONMENT)
    found = json.loads(listed.stdout)
    assert found["penstock"] == installed
    assert found["grpcio"] == metadata.version("grpcio")
    assert set(found) == {"penstock", "python", "grpcio"}

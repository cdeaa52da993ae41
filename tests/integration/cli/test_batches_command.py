"""`penstock batches`, against the service itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.main import main
from tests.integration.cli.conftest import ENVIRONMENT

KEY = "admin-key-of-the-tests"


class Batches:
    """A way to run the command."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, *words: str, status: int = 0, group: str = "batches") -> Result:
        everything = [group, *words, "--training-address", self.address, "--api-key", KEY]
        result = CliRunner().invoke(main, everything, env=ENVIRONMENT)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    def json(self, *words: str, group: str = "batches") -> Any:
        return json.loads(self(*words, "--json", group=group).stdout)

    def until(self, name: str, state: str) -> Any:
        deadline = time.monotonic() + 100
        while True:
            batch = self.json("show", name)
            if batch["state"] == state:
                return batch
            assert time.monotonic() < deadline, batch
            time.sleep(0.1)


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batches]:
    """TrainingService, which no edge works for."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "admin-key").write_text(KEY)
    (folder / "admin-key").chmod(0o600)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "services.training"),
            *("--port", "0", "--data-dir", str(folder)),
        ],
        env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    assert process.stdout is not None
    with process:
        yield Batches(json.loads(process.stdout.readline())["address"])
        process.kill()


def lines(path: Path, url: str = "/v1/embeddings", count: int = 2) -> Path:
    content = [
        {"custom_id": f"c-{n}", "method": "POST", "url": url, "body": {}} for n in range(count)
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in content))
    return path


def test_from_a_path_to_the_end(batches: Batches, tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl")
    made = batches.json("create", str(path), "--label", "team=a", "--window", "2d")
    assert made["endpoint"] == "/v1/embeddings"
    assert made["metadata"] == {"team": "a"}
    name = made["name"].removeprefix("batches/")
    begun = batches.until(name, "STATE_IN_PROGRESS")
    assert begun["counts"]["total_count"] == 2
    assert name in batches("list").stdout
    shown = batches("show", name).stdout
    assert "in progress" in shown
    assert "team=a" in shown
    batches("cancel", name)
    done = batches.until(name, "STATE_CANCELLED")
    error_file = done["error_file"].removeprefix("files/")
    assert error_file in batches("show", name).stdout
    batches("download", error_file, "-o", str(tmp_path / "errors"), group="files")
    found = [json.loads(one) for one in (tmp_path / "errors").read_text().splitlines()]
    assert [one["error"]["code"] for one in found] == ["batch_cancelled"] * 2


def test_of_an_uploaded_file(batches: Batches, tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", "/v1/completions")
    file = batches.json("upload", str(path), "--purpose", "batch", group="files")
    id_ = file["name"].removeprefix("files/")
    made = batches.json("create", id_, "--endpoint", "/v1/completions")
    assert made["input_file"] == file["name"]
    said = batches("create", id_).stdout
    assert "batch_" in said
    other = said.split()[0]
    shown = batches.until(other, "STATE_FAILED")
    assert shown["errors"][0]["code"] == "mismatched_url"
    assert "line 1" in batches("show", other).stdout


def test_mistakes(batches: Batches, tmp_path: Path) -> None:
    path = str(lines(tmp_path / "in.jsonl"))
    for words in (
        ("create", str(tmp_path / "nothing")),
        ("create", path, "--label", "x"),
        ("create", path, "--window", "soon"),
    ):
        assert batches(*words, status=2).stderr
    for words in (
        ("show", "batch_nothing"),
        ("cancel", "batch_nothing"),
        ("create", "file-nothing"),
    ):
        assert "nothing" in batches(*words, status=1).stderr

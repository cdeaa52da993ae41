import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.main import main


@dataclass
class Penstock:
    """A stand-in platform and a way to run the command against it."""

    address: str
    data_dir: Path
    cancelled: Path
    """Exists once a stream was cancelled."""

    @property
    def options(self) -> list[str]:
        return [
            *("--data-dir", str(self.data_dir)),
            *("--model-address", self.address, "--inference-address", self.address),
            *("--retrieval-address", self.address),
        ]

    def __call__(self, *words: str, text: str | None = None) -> Result:
        return CliRunner().invoke(main, [*words, *self.options], input=text, env=ENVIRONMENT)

    def json(self, *words: str) -> Any:
        result = self(*words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


ENVIRONMENT: dict[str, str | None] = {
    name: None for name in os.environ if name.startswith("PENSTOCK_")
}


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the stand-in, and where it writes what happened."""
    events = tmp_path_factory.mktemp("events")
    script = Path(__file__).with_name("platform_standin.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(events)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
        text=True,
    )
    assert process.stdout
    with process, process.stdout:
        yield json.loads(process.stdout.readline())["address"], events
        process.kill()


@pytest.fixture
def penstock(
    standin: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Penstock:
    """The command, on a catalogue of its own."""
    monkeypatch.chdir(tmp_path)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    key = f"admin-{uuid.uuid4().hex}"
    (data_dir / "admin-key").write_text(key + "\n")
    address, events = standin
    return Penstock(address, data_dir, events / key)

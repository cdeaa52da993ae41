"""The units of one host."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.settings import Settings as EdgeSettings
from gateway.settings import load as load_edge
from services.cli.main import main
from services.settings import Settings, load

UNITS = Path(__file__).resolve().parents[3] / "deploy" / "systemd"


def values(name: str) -> dict[str, str]:
    lines = (UNITS / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))


def test_the_command_is_one_that_there_is() -> None:
    program, command, *options = values("penstock.service")["ExecStart"].split()
    assert program == "/opt/penstock/bin/penstock"
    offered = CliRunner().invoke(main, [command, "--help"])
    assert offered.exit_code == 0
    for option in options:
        assert not option.startswith("-") or option in offered.output


def test_it_waits_for_what_drains() -> None:
    waits = int(values("penstock.service")["TimeoutStopSec"])
    assert waits > EdgeSettings().drain_s + Settings().services.inference.grace_s


def test_its_settings_are_read() -> None:
    settings = load(UNITS / "penstock.toml", {})
    assert {model.type for model in settings.api.models.values()} == {"chat", "embedding", "image"}
    assert load_edge(UNITS / "penstock.toml", environ={}).host_port == ("127.0.0.1", 8080)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd isn't here")
@pytest.mark.parametrize("name", ["penstock.service", "penstock-envoy.service"])
def test_systemd_takes_them(name: str, tmp_path: Path) -> None:
    # It looks for the programs, which are installed elsewhere.
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / name).read_text())
    (tmp_path / name).write_text(text)
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in run.stderr.splitlines() if str(tmp_path) in line or name in line]
    assert (run.returncode, complaints) == (0, [])

"""What `penstock serve` does with addresses: who had to move says so, and nothing is ignored."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli.main import main
from services.cli.output import Output
from services.cli.plan import Wish, make_plan
from services.cli.ports import parse_address
from services.cli.roster import Entry
from services.cli.serving import Serving
from services.settings import Settings, load

PROGRAM = """
import os, sys
print("told", sys.argv[1:3], os.environ["PENSTOCK_SERVICES_MODEL_ADDRESS"], file=sys.stderr)
sys.exit(2)
"""
"""A service that ends at once: its last lines are on the screen then."""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    folder = tmp_path / "programs" / "told_where"
    folder.mkdir(parents=True)
    (folder / "__main__.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    return Entry("model", "told_where", 0)


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_moved_port_is_told(
    tmp_path: Path, program: Entry, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(env={})
    taken = parse_address(Settings().services.model.address)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # another program listens there already
            stack.enter_context(socket.create_server(taken))
        plan = make_plan([program], settings, Wish(), "token")
        serving = Serving(plan, settings, tmp_path, None, "token", None, Output(as_json))
        assert await serving.run() == 1
    out, err = capsys.readouterr()
    address = plan.addresses["model"]
    assert address != taken
    said = err if as_json else out
    assert f"{taken} is taken: model listens on {address} instead." in said
    assert f"told ['--port', '{address.port}'] {address}" in err
    if as_json:
        assert out == ""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "9000"], "--port would"),
        (["--host", "0.0.0.0"], "--host would"),
        (["--port", "0", "--host", "::1"], "--host and --port would"),
    ],
)
def test_options_of_an_edge_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "penstock.toml").write_text("[api]\nenabled = false\n")
    data = tmp_path / "data"
    result = CliRunner().invoke(main, ["serve", "--json", "--data-dir", str(data), *words])
    assert result.exit_code == 2
    error = json.loads(result.stderr)["error"]
    assert error["message"].startswith(named)
    assert "[api] enabled is false" in error["message"]
    assert error["field"] == "api.enabled"
    assert not data.exists(), "nothing was begun"

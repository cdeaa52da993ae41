"""What `make` says where Python isn't as it has to be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
MADE = "an environment would be made"

# What the Makefile asks of a Python: whether it is new enough, whether it can make environments.
FAKE = """#!/bin/sh
case "$*" in
  *version_info*) exit {too_old} ;;
  *ensurepip*) echo "No module named 'ensurepip'" >&2; exit {no_ensurepip} ;;
  -V) echo "Python 3.9.2" ;;
  *"-m venv"*) echo "{made}"; exit 1 ;;
esac
"""


def make(folder: Path, *, too_old: bool = False, no_ensurepip: bool = False) -> tuple[str, str]:
    """Makes the environment with such a Python, which fails at the latest at its last step."""
    python = folder / "python3"
    script = FAKE.format(too_old=int(too_old), no_ensurepip=int(no_ensurepip), made=MADE)
    python.write_text(script)
    python.chmod(0o755)
    return run(folder)


def run(folder: Path, *words: str) -> tuple[str, str]:
    target = folder / "venv" / ".torch"
    done = subprocess.run(
        ["/usr/bin/env", "make", "-s", f"VENV={folder / 'venv'}", *words, str(target)],
        cwd=REPOSITORY,
        env={"PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert not (folder / "venv").exists()
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    return done.stdout, "\n".join(errors)


def test_a_python_that_has_everything_makes_the_environment(tmp_path: Path) -> None:
    out, errors = make(tmp_path)
    assert out.strip() == MADE
    assert errors == ""


def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    out, errors = make(tmp_path, too_old=True)
    assert "needs Python 3.11 or newer, and python3 is Python 3.9.2" in errors
    assert len(errors.splitlines()) == 1
    assert MADE not in out


def test_a_python_without_what_makes_environments(tmp_path: Path) -> None:
    out, errors = make(tmp_path, no_ensurepip=True)
    assert "apt install python3-venv" in errors
    assert len(errors.splitlines()) == 1
    assert MADE not in out


@pytest.mark.parametrize("name", ["python3.99", "/nowhere/python3"])
def test_no_python_at_all(tmp_path: Path, name: str) -> None:
    out, errors = run(tmp_path, f"PYTHON={name}")
    assert f"there is no {name}" in errors
    assert len(errors.splitlines()) == 1
    assert out == ""

"""A warm start's figures, and how what libraries take is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.processes import REPOSITORY, environment
from benchmarks.start.bench import _RECORDER
from benchmarks.start.libraries import libraries, load
from benchmarks.start.report import Start, render
from tests.unit.benchmarks.test_image_report import rows


def start(rest: float, libraries_s: float = 4.0) -> Start:
    return Start(first=rest + libraries_s, ready=99.0, command=1.0, programs=libraries_s - 1)


def test_what_is_left_is_of_each_round() -> None:
    """Medians of what it is the difference of would say 3.5."""
    starts = [start(2.0), start(2.5, libraries_s=9.0), start(7.5, libraries_s=1.0)]
    found = rows(render(starts, "a note"))
    assert found["until a first token without loading libraries"] == ["2.50", "< 3", "pass"]
    assert found["until everything is ready"] == ["99.00", "", ""]
    assert found["loading those of what starts at once"] == ["3.00", "", ""]


@pytest.mark.parametrize(("rest", "verdict"), [(2.99, "pass"), (3.0, "FAIL")])
def test_the_mark(rest: float, verdict: str) -> None:
    assert start(rest).rest == pytest.approx(rest)
    starts = [Start(first=rest, ready=99.0, command=0.0, programs=0.0)]
    assert rows(render(starts, ""))["until a first token without loading libraries"][2] == verdict


def test_the_platform_s_own_modules_are_no_libraries() -> None:
    modules = ["sys", "__main__", "grpc", "grpc.aio", "services", "services.rpc", "gateway.app"]
    assert libraries([*modules, "policyholder", "penstock.model"]) == [
        *("sys", "grpc", "grpc.aio", "policyholder")
    ]


def test_what_can_t_be_loaded_is_left_out() -> None:
    assert load(["json", "json.decoder", "no_such_library", "json.no_such_module"]) == 2


def test_a_process_s_modules_are_recorded_and_loaded_by_another(tmp_path: Path) -> None:
    def ran(*words: str, **env: str) -> bytes:
        return subprocess.run(
            [sys.executable, *words], env=environment(env), cwd=tmp_path, check=True, timeout=60,
            capture_output=True,
        ).stdout  # fmt: skip

    (tmp_path / "modules").mkdir()
    paths = os.pathsep.join([str(_RECORDER), environment({})["PYTHONPATH"]])
    recording = {"BENCH_MODULES": str(tmp_path / "modules"), "PYTHONPATH": paths}
    ran("-P", "-c", "import wave, benchmarks.machine", **recording)
    (record,) = (tmp_path / "modules").iterdir()
    modules = json.loads(record.read_text())
    assert {"wave", "benchmarks.machine", "sitecustomize"} <= set(modules)
    record.write_text(json.dumps(libraries(modules)))
    told = json.loads(ran("-m", "benchmarks.start.libraries", str(record)))
    assert told["libraries"] == len(libraries(modules))
    assert REPOSITORY.name not in record.read_text()

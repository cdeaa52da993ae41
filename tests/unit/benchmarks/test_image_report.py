import json

import pytest

from benchmarks.image.bench import QUICK, Options, run
from benchmarks.image.jobs import PROMPTS, Job, job
from benchmarks.image.report import ALONE, EIGHT, TOGETHER, contestants, render
from benchmarks.processes import ChildError

SAMPLES = {
    ("exact-float32", ALONE): [2.2, 2.1, 9.0],
    ("exact-float32", EIGHT): [1.1],
    ("any-float32", ALONE): [2.0],
    ("any-float32", EIGHT): [0.5],
    ("plain-float32", ALONE): [2.0],
    ("plain-float32", EIGHT): [2.0],
    ("plain-float32", TOGETHER): [1.6],
}


def rows(report: str) -> dict[str, list[str]]:
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells if first}


def test_seconds_for_one_and_rates_for_eight():
    found = rows(render(SAMPLES, contestants(["float32"]), "a note"))
    assert found["Penstock, float32"] == ["2.20", "0.91", ""]
    assert found["diffusers, float32"] == ["2.00", "0.50", "0.62"]


def test_ratios_and_their_marks():
    found = rows(render(SAMPLES, contestants(["float32"]), "a note"))
    one = "Penstock, float32, 1 caller: service / plain call"
    assert found[one] == ["1.10 ×", "≤ 1.1 ×", "pass"]
    gain = "Penstock, float32, batching gain: images/s at 8 callers / at 1"
    assert found[gain] == ["2.00 ×", "≥ 0.95 ×", "pass"]
    assert found["Penstock, float32, 8 callers: images/s / plain calls in turn"][0] == "1.82 ×"
    assert found["diffusers, float32, gain of one call of 8"] == ["1.25 ×", "", ""]
    slower = SAMPLES | {("exact-float32", ALONE): [2.3], ("exact-float32", EIGHT): [2.5]}
    found = rows(render(slower, contestants(["float32"]), "a note"))
    assert found[one] == ["1.15 ×", "≤ 1.1 ×", "FAIL"]
    assert found[gain] == ["0.92 ×", "≥ 0.95 ×", "FAIL"]


def test_the_report_tells_what_was_measured_and_nothing_else():
    report = render({("exact-float32", ALONE): [2.0]}, contestants(["float32"]), "a note")
    assert "×" not in report
    assert rows(report)["diffusers, float32"] == ["", "", ""]
    assert report.endswith("\n\na note")


def test_every_caller_of_a_job_has_its_own_seed_and_rounds_differ():
    first, second = job(8, 10, 512, 20), job(8, 11, 512, 20)
    assert sorted(first.prompts) == sorted(PROMPTS)
    assert second.seed - first.seed > len(PROMPTS)
    wire = json.loads(json.dumps(job(1, 3, 64, 2, together=True).to_wire()))
    assert Job(**wire).to_wire() == wire


async def test_a_model_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ChildError, match=f"no pipeline in {tmp_path}"):
        await run(Options(model=tmp_path), lambda line: None)
    assert QUICK.rounds == 1

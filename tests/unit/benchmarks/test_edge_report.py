import math

import pytest

from benchmarks.edge.contestants import AIO, OURS, PYDANTIC
from benchmarks.edge.gates import Gate
from benchmarks.edge.measure import PACED_256, PACED_1024, Figures
from benchmarks.edge.quantiles import quantile
from benchmarks.edge.report import marks, render


def figures(edge: float, both: float) -> Figures:
    made = Figures(firsts=[0.001, 0.002])
    answer = {"edge": edge * 1e-3, "engine": (both - edge) * 1e-3, "count": 1000, "seconds": 1.0}
    made.add(answer | {"firsts": [0.003], "lost": 0})
    return made


RESULTS = {
    (PACED_256.name, OURS): figures(20, 25),
    (PACED_256.name, PYDANTIC): figures(80, 120),
    (PACED_256.name, AIO): figures(50, 80),
    (PACED_1024.name, OURS): figures(20, 22),
    (PACED_1024.name, PYDANTIC): figures(70, 100),
}


def test_figures_are_per_token():
    ours = RESULTS[PACED_256.name, OURS]
    assert (ours.edge(), ours.both()) == pytest.approx((20, 25))
    assert ours.rate == [1000.0]
    assert ours.firsts == [0.001, 0.002, 0.003]


def test_ratios_and_their_tolerance():
    found = {mark.name: mark for mark in marks(RESULTS)}
    fastapi = found["edge + engine, paced 256: FastAPI / ours"]
    assert fastapi.ratio == pytest.approx(4.8)
    assert fastapi.reached
    aio = found["edge + engine, paced 256: grpc.aio per request / ours"]
    assert aio.ratio == pytest.approx(3.2)
    assert not aio.reached
    assert found["saturated tokens/s per core: ours / FastAPI"].ratio == pytest.approx(3.5)
    assert len(found) == 3


def test_the_report_tells_what_ran_and_nothing_else():
    gate = Gate("cancel", 12.0, 10.0, "ms", "p50 1.0 ms")
    report = render(RESULTS, [gate], ["a note"])
    assert "| cancel | 12.0 ms  | < 10 ms | FAIL | p50 1.0 ms |" in report
    assert "whole answers" not in report
    assert report.endswith("a note")
    assert render({}, [], ["a note"]) == "a note"


def test_quantiles():
    samples = [float(number) for number in range(1, 101)]
    assert (quantile(samples, 0.5), quantile(samples, 0.99)) == (50.0, 99.0)
    assert quantile([7.0], 0.99) == 7.0
    assert math.isnan(quantile([], 0.5))

"""The benchmark of a warm start, at work."""

from __future__ import annotations

import pytest

from benchmarks.start.bench import Options, run
from tests.unit.benchmarks.test_image_report import rows

pytestmark = pytest.mark.timeout(600)


async def test_a_start_is_measured() -> None:
    said: list[str] = []
    found = rows(await run(Options(rounds=1, words=("--engine", "echo")), said.append))
    seconds = {title: float(cells[0]) for title, cells in found.items()}
    first, ready, command, programs, rest = seconds.values()
    assert min(first, ready, command, programs) > 0
    assert rest == pytest.approx(first - command - programs, abs=0.02)
    assert len(said) == 2

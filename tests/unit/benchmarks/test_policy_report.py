"""The table of what policy costs."""

from __future__ import annotations

import pytest

from benchmarks.edge.measure import Figures
from benchmarks.policy.report import MEMORY, OFF, TITLES, ratios, render
from tests.unit.benchmarks.test_image_report import rows


def figures(edge: list[float], both: list[float]) -> Figures:
    return Figures(edge_us=edge, both_us=both)


FIGURES = {
    OFF: figures([100.0, 1000.0, 200.0], [200.0, 2000.0, 400.0]),
    MEMORY: figures([150.0, 1100.0, 500.0], [300.0, 2400.0, 1600.0]),
}


def test_ratios_are_of_rounds() -> None:
    """A round that was disturbed disturbs both; medians of all rounds would say 2.5."""
    assert ratios(FIGURES, MEMORY) == (1.5, 1.5)
    assert ratios(FIGURES, OFF) == (1.0, 1.0)


def test_the_table_has_what_ran() -> None:
    found = rows(render(FIGURES, ["a note"]))
    assert found[TITLES[MEMORY]] == ["500", "1600", "1.50 ×", "1.50 ×"]
    assert len([title for title in TITLES.values() if title in found]) == 2


def test_rounds_have_to_match() -> None:
    uneven = {OFF: figures([1.0], [1.0]), MEMORY: figures([1.0, 2.0], [1.0, 2.0])}
    with pytest.raises(ValueError, match="zip"):
        ratios(uneven, MEMORY)

"""The table of what policy costs. Markdown that reads well in a terminal."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.edge.measure import Figures
from benchmarks.edge.report import table

OFF, MEMORY, REDIS = "off", "memory", "redis"
TITLES = {
    OFF: "no policy: anybody, no limits, nothing written down",
    MEMORY: "all of it, limits in memory",
    REDIS: "all of it, limits in Redis",
}


def ratios(figures: Mapping[str, Figures], name: str) -> tuple[float, float]:
    """How much more CPU one takes than the one without policy: the edge, and both processes.

    Of each round by itself, since rounds meet the same noise; the median of those.
    """
    one, off = figures[name], figures[OFF]
    pairs = ((one.edge_us, off.edge_us), (one.both_us, off.both_us))
    edge, both = (median(a / b for a, b in zip(*pair, strict=True)) for pair in pairs)
    return edge, both


def render(figures: Mapping[str, Figures], notes: Sequence[str]) -> str:
    """Renders what was measured."""
    rows: list[tuple[str, ...]] = []
    for name, title in TITLES.items():
        if name not in figures:
            continue
        one = figures[name]
        edge, both = ratios(figures, name)
        rows.append(
            (title, f"{one.edge():.0f}", f"{one.both():.0f}", f"{edge:.2f} ×", f"{both:.2f} ×")
        )
    head = ("", "edge, µs", "edge + service, µs", "edge: ratio", "edge + service: ratio")
    title = "### Policy: CPU per short whole answer"
    return "\n\n".join([title, table(head, rows), *notes])

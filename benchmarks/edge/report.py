"""The tables: figures, ratios beside their marks, gates. Markdown that reads well in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.edge.contestants import AIO, ENVOY, OURS, PYDANTIC, TITLES
from benchmarks.edge.gates import Gate
from benchmarks.edge.measure import (
    PACED_1,
    PACED_32,
    PACED_256,
    PACED_1024,
    SCENARIOS,
    UNARY_32,
    Results,
    Scenario,
)
from benchmarks.edge.quantiles import quantile

TOLERANCE = 0.15
"""Share of a mark that may be missing."""


@dataclass(frozen=True)
class Mark:
    """A ratio and the figure that it is to reach."""

    name: str
    ratio: float
    target: float

    @property
    def reached(self) -> bool:
        """Whether the ratio is the target's or within 15 % of it."""
        return self.ratio >= self.target * (1 - TOLERANCE)


def marks(results: Results) -> list[Mark]:
    """The ratios that count, as far as their references ran."""
    wanted = (
        ("edge + engine, paced 256: FastAPI / ours", PYDANTIC, PACED_256, "both", 4.8),
        ("edge + engine, paced 256: grpc.aio per request / ours", AIO, PACED_256, "both", 4.1),
        ("saturated tokens/s per core: ours / FastAPI", PYDANTIC, PACED_1024, "edge", 3.2),
        ("saturated tokens/s per core: ours / Envoy", ENVOY, PACED_1024, "edge", 0.9),
        ("whole answers, edge: FastAPI / ours", PYDANTIC, UNARY_32, "edge", 2.1),
    )
    found: list[Mark] = []
    for name, reference, scenario, figure, target in wanted:
        theirs = results.get((scenario.name, reference))
        ours = results.get((scenario.name, OURS))
        if theirs is not None and ours is not None:
            pair = (
                (theirs.both(), ours.both()) if figure == "both" else (theirs.edge(), ours.edge())
            )
            found.append(Mark(name, pair[0] / pair[1], target))
    return found


def render(results: Results, gates: Sequence[Gate], notes: Sequence[str]) -> str:
    """Renders everything that was measured."""
    sections = (
        ("Ratios", _ratios(results)),
        ("CPU, µs per token or answer: edge / edge + engine", _cpu(results)),
        ("Saturation: 1,024 paced streams", _saturation(results)),
        ("Time to the first event, p50 / p99, beside so many running streams", _firsts(results)),
        ("Gates", _gates(gates)),
    )
    parts = [f"### {title}\n\n{table}" for title, table in sections if table]
    return "\n\n".join([*parts, *notes])


def _verdict(passed: bool) -> str:
    return "pass" if passed else "FAIL"


def _edges(results: Results) -> list[str]:
    present = {edge for _, edge in results}
    return [name for name in TITLES if name in present]


def _ratios(results: Results) -> str:
    rows = [
        (m.name, f"{m.ratio:.2f} ×", f"{m.target:.1f} ×", _verdict(m.reached))
        for m in marks(results)
    ]
    return table(("", "measured", "mark", "within 15 %"), rows)


def _gates(gates: Sequence[Gate]) -> str:
    rows = [
        (g.name, f"{g.value:.1f} {g.unit}", f"< {g.limit:g} {g.unit}", _verdict(g.passed), g.detail)
        for g in gates
    ]
    return table(("", "measured", "limit", "", ""), rows)


def _scenarios(results: Results, wanted: Sequence[Scenario]) -> list[Scenario]:
    ran = {scenario for scenario, _ in results}
    return [scenario for scenario in wanted if scenario.name in ran]


def _cpu(results: Results) -> str:
    shown = _scenarios(results, SCENARIOS)
    rows: list[tuple[str, ...]] = []
    for name in _edges(results):
        cells = (results.get((scenario.name, name)) for scenario in shown)
        rows.append(
            (TITLES[name], *(f"{c.edge():.1f} / {c.both():.1f}" if c else "–" for c in cells))
        )
    return table(("", *(s.title for s in shown)), rows)


def _saturation(results: Results) -> str:
    rows: list[tuple[str, ...]] = []
    for name in _edges(results):
        figures = results.get((PACED_1024.name, name))
        if figures is not None:
            rows.append(
                (
                    TITLES[name],
                    f"{1e6 / figures.edge():,.0f}",
                    f"{median(figures.rate):,.0f}",
                    f"{median(figures.load):.2f}",
                    str(figures.lost),
                )
            )
    head = ("", "tokens/s per core of edge", "tokens/s seen", "cores the edge used", "streams lost")
    return table(head, rows)


def _firsts(results: Results) -> str:
    shown = _scenarios(results, (PACED_1, PACED_32, PACED_256))
    rows: list[tuple[str, ...]] = []
    for name in _edges(results):
        cells: list[str] = []
        for scenario in shown:
            figures = results.get((scenario.name, name))
            if figures is None:
                cells.append("–")
                continue
            p50, p99 = (quantile(figures.firsts, share) * 1e3 for share in (0.5, 0.99))
            cells.append(f"{p50:.1f} / {p99:.1f} ms")
        rows.append((TITLES[name], *cells))
    return table(("", *(str(s.clients) for s in shown)), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Renders a table; empty where there is nothing in it."""
    if not rows or len(head) == 1:
        return ""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rendered = [_row(line, widths) for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rendered[0], rule, *rendered[1:]])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"

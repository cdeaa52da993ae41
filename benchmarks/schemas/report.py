"""The table of what decoding takes. Markdown that reads well in a terminal."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.edge.report import table
from benchmarks.schemas.bodies import TITLES as BODIES

MSGSPEC, PYDANTIC, PARSED = "msgspec", "pydantic", "parsed"
TITLES = {
    MSGSPEC: "msgspec, as the edge decodes",
    PYDANTIC: "pydantic, from JSON",
    PARSED: "pydantic, of what json has parsed, as FastAPI does",
}

Samples = Mapping[tuple[str, str], Sequence[float]]
"""Microseconds of CPU a request, by contestant and body: one of each round."""


def ratio(samples: Samples, name: str, body: str) -> float:
    """How much longer one takes than msgspec: the median of the ratios of single rounds."""
    pairs = zip(samples[name, body], samples[MSGSPEC, body], strict=True)
    return median(one / ours for one, ours in pairs)


def render(samples: Samples, notes: Sequence[str]) -> str:
    """Renders what was measured."""
    rows = [
        (
            title,
            *(f"{median(samples[name, body]):.1f}" for body in BODIES),
            *(f"{ratio(samples, name, body):.2f} ×" for body in BODIES),
        )
        for name, title in TITLES.items()
        if all((name, body) in samples for body in BODIES)
    ]
    head = ("", *(f"{title}, µs" for title in BODIES.values()))
    head += tuple(f"{title}: ratio" for title in BODIES.values())
    return "\n\n".join(["### Schemas: CPU per chat request decoded", table(head, rows), *notes])

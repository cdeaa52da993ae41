"""Figures of one run, and the report of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Samples = Mapping[tuple[str, str], Sequence[float]]
"""Seconds an image, by contestant and what was measured."""

ALONE = "alone"
EIGHT = "eight"
TOGETHER = "together"

TITLES = {
    ALONE: "1 caller, s an image",
    EIGHT: "8 callers, images/s",
    TOGETHER: "8 images in one call, images/s",
}
_MOST_OVERHEAD = 1.1
_LEAST_GAIN = 0.95
"""Eight callers must not be worse off than if they came one after the other."""


@dataclass(frozen=True)
class Contestant:
    """Who draws."""

    name: str
    title: str
    dtype: str
    batching: str = ""
    """Of our service; empty for plain calls."""


def contestants(dtypes: Sequence[str]) -> list[Contestant]:
    """Lists who takes part, in the order of the report."""
    found: list[Contestant] = []
    for dtype in dtypes:
        found += [
            Contestant(f"exact-{dtype}", f"Penstock, {dtype}", dtype, "exact"),
            Contestant(f"any-{dtype}", f'Penstock, {dtype}, batching = "any"', dtype, "any"),
            Contestant(f"plain-{dtype}", f"diffusers, {dtype}", dtype),
        ]
    return found


def render(samples: Samples, taking_part: Sequence[Contestant], note: str) -> str:
    """Returns the report."""

    def seconds(name: str, what: str) -> float | None:
        found = samples.get((name, what))
        return median(found) if found else None

    lines = ["### Images", "", f"| | {' | '.join(TITLES.values())} |", "|---|---|---|---|"]
    for one in taking_part:
        cells: list[str] = []
        for what in TITLES:
            value = seconds(one.name, what)
            cells.append("" if value is None else f"{value if what == ALONE else 1 / value:.2f}")
        lines.append(f"| {one.title} | {' | '.join(cells)} |")
    lines += ["", "### Ratios", "", "| | measured | mark | |", "|---|---|---|---|"]
    for one in taking_part:
        alone, eight = seconds(one.name, ALONE), seconds(one.name, EIGHT)
        plain = f"plain-{one.dtype}"
        if one.batching:
            by_itself = seconds(plain, ALONE)
            if one.batching == "exact" and alone and by_itself:
                title = f"{one.title}, 1 caller: service / plain call"
                ratio = alone / by_itself
                lines.append(_row(title, ratio, f"≤ {_MOST_OVERHEAD} ×", ratio <= _MOST_OVERHEAD))
            if alone and eight:
                title = f"{one.title}, batching gain: images/s at 8 callers / at 1"
                ratio = alone / eight
                lines.append(_row(title, ratio, f"≥ {_LEAST_GAIN} ×", ratio >= _LEAST_GAIN))
            if eight and (in_turn := seconds(plain, EIGHT)):
                title = f"{one.title}, 8 callers: images/s / plain calls in turn"
                lines.append(_row(title, in_turn / eight))
        elif alone and (together := seconds(one.name, TOGETHER)):
            title = f"{one.title}, gain of one call of 8"
            lines.append(_row(title, alone / together))
    return "\n".join([*lines, "", note])


def _row(title: str, ratio: float, mark: str = "", reached: bool | None = None) -> str:
    verdict = {None: "", True: "pass", False: "FAIL"}[reached]
    return f"| {title} | {ratio:.2f} × | {mark} | {verdict} |"

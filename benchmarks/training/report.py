"""Figures of one run, and the report of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

ALONE = "alone"
BESIDE = "beside"
Samples = Mapping[tuple[str, int], Sequence[float]]
"""Tokens a second, alone or beside a job, by callers."""


@dataclass(frozen=True)
class Lesson:
    """A small job from its start to its end."""

    lines: int
    seconds: float
    """From the call that starts it until the model can be called."""
    training_s: float
    """Of those, with a worker."""
    steps: int
    epochs: int
    tokens: int
    right: int
    """Questions about the file that are answered, in words that aren't in it."""
    asked: int
    right_before: int
    """Questions that the base answers."""


def render(samples: Samples, lesson: Lesson, cores: int, threads: int, note: str) -> str:
    """Returns the report."""
    # What a worker takes away at most: the cores that it computes on.
    mark = (cores - threads) / cores
    lines = [
        "### Chats beside a training job",
        "",
        "| Callers | tokens/s alone | tokens/s beside a job | ratio | mark | |",
        "|---|---|---|---|---|---|",
    ]
    for callers in sorted({callers for _, callers in samples}):
        alone, beside = (median(samples[way, callers]) for way in (ALONE, BESIDE))
        ratio = beside / alone
        verdict = "pass" if ratio >= mark else "FAIL"
        cells = (
            f"{callers} | {alone:.0f} | {beside:.0f} | {ratio:.2f} × | ≥ {mark:.2f} × | {verdict}"
        )
        lines.append(f"| {cells} |")
    rate = lesson.tokens / lesson.training_s
    lines += [
        "",
        f"### A job of {lesson.lines} lines on the starter, nothing beside it",
        "",
        "| seconds | with a worker | epochs | steps | tokens | tokens/s | answered | before |",
        "|---|---|---|---|---|---|---|---|",
        f"| {lesson.seconds:.0f} | {lesson.training_s:.0f} | {lesson.epochs} | {lesson.steps} | "
        f"{lesson.tokens:,} | {rate:,.0f} | {lesson.right} of {lesson.asked} | "
        f"{lesson.right_before} of {lesson.asked} |",
        "",
        note,
    ]
    return "\n".join(lines)

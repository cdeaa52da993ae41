"""The table of a warm start. Markdown that reads well in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.edge.report import table

MARK_S = 3.0
"""What a start may take beside loading libraries, until the first token."""


@dataclass(frozen=True)
class Start:
    """A warm start, in seconds."""

    first: float
    """From the command until the first token of the first request that is answered."""
    ready: float
    """From the command until everything is ready."""
    command: float
    """Loading the libraries of the command."""
    programs: float
    """Loading those of all programs that start at once, each in a process."""

    @property
    def rest(self) -> float:
        """Until the first token, without loading libraries."""
        return self.first - self.command - self.programs


def render(starts: Sequence[Start], note: str) -> str:
    """Renders what was measured: medians of rounds."""

    def line(title: str, seconds: Sequence[float], *more: str) -> tuple[str, ...]:
        return (title, f"{median(seconds):.2f}", *(more or ("", "")))

    rest = [start.rest for start in starts]
    verdict = "pass" if median(rest) < MARK_S else "FAIL"
    rows = [
        line("`penstock serve` until a first token", [start.first for start in starts]),
        line("until everything is ready", [start.ready for start in starts]),
        line("loading the libraries of the command", [start.command for start in starts]),
        line("loading those of what starts at once", [start.programs for start in starts]),
        line("until a first token without loading libraries", rest, f"< {MARK_S:g}", verdict),
    ]
    return f"### A warm start\n\n{table(('', 'seconds', 'mark', ''), rows)}\n\n{note}"

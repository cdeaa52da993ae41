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

    ready: float
    """From the command until everything is ready."""
    first: float
    """From the first request until its first token."""
    command: float
    """Loading the libraries of the command."""
    programs: float
    """Loading those of all programs at the same time, each in a process."""

    @property
    def whole(self) -> float:
        """Until the first token."""
        return self.ready + self.first

    @property
    def rest(self) -> float:
        """The same without loading libraries."""
        return self.whole - self.command - self.programs


def render(starts: Sequence[Start], note: str) -> str:
    """Renders what was measured: medians of rounds."""

    def line(title: str, seconds: Sequence[float], *more: str) -> tuple[str, ...]:
        return (title, f"{median(seconds):.2f}", *(more or ("", "")))

    rest = [start.rest for start in starts]
    verdict = "pass" if median(rest) < MARK_S else "FAIL"
    rows = [
        line("`penstock serve` until everything is ready", [start.ready for start in starts]),
        line("a request then, until its first token", [start.first for start in starts]),
        line("together", [start.whole for start in starts]),
        line("loading the libraries of the command", [start.command for start in starts]),
        line("loading those of all programs at once", [start.programs for start in starts]),
        line("together without loading libraries", rest, f"< {MARK_S:g}", verdict),
    ]
    return f"### A warm start\n\n{table(('', 'seconds', 'mark', ''), rows)}\n\n{note}"

"""What contestants embed: passages of this repository's own documentation."""

from collections.abc import Sequence
from random import Random

from benchmarks.processes import REPOSITORY

CALLERS = (1, 8, 64)
LENGTHS = ("short", "mixed", "long")
_COUNTS = {"short": 240, "mixed": 240, "long": 48}


def texts(length: str, seed: int) -> list[str]:
    """Texts of about 10 (short), 5 to 256 (mixed, mean near 70) or 256 tokens (long)."""
    random = Random(f"{length} {seed}")
    words = _words()
    found: list[str] = []
    for _ in range(_COUNTS[length]):
        if length == "short":
            count = random.randint(4, 9)
        elif length == "long":
            count = 220  # what is past the model's 256 tokens is cut off
        else:
            count = min(170, max(3, round(random.lognormvariate(3.4, 0.75))))
        start = random.randrange(len(words) - count)
        found.append(" ".join(words[start : start + count]))
    return found


def calls(given: Sequence[str], callers: int) -> list[list[str]]:
    """The texts shared out among callers, each with one call."""
    return [list(given[number::callers]) for number in range(callers)]


def _words() -> list[str]:
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    return " ".join(page.read_text("utf-8") for page in pages).split()

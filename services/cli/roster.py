"""Which programs make up the platform."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """A program of the platform."""

    name: str
    module: str
    """Run as `python -m`."""
    stop_stage: int
    """Programs stop in this order: who calls others stops before them."""
    gives_way: bool = False
    """A chat does without it: on a machine that can't start all at once, it starts later."""


EDGE = Entry("gateway", "gateway", 0)
ROSTER = (
    Entry("model", "services.model", 3),
    Entry("inference", "services.inference", 2),
    Entry("embedding", "services.embedding", 2, gives_way=True),
    Entry("image", "services.image", 2, gives_way=True),
    Entry("training", "services.training", 1, gives_way=True),
    Entry("retrieval", "services.retrieval", 1, gives_way=True),
    EDGE,
)
"""In the order of their start."""


def runnable() -> list[Entry]:
    """Returns the programs that are installed here."""
    return [entry for entry in ROSTER if _has_main(entry.module)]


def _has_main(module: str) -> bool:
    """Tells whether `python -m module` would run, without importing the module."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec else None
    return any(Path(folder, *rest, "__main__.py").is_file() for folder in folders or ())

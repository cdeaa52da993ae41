"""Imports what a list names, says so, and ends: what a program takes that only loads libraries.

python -m benchmarks.start.libraries FILE
"""

import importlib
import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

OURS = frozenset(
    {"services", "gateway", "policy", "telemetry", "penstock", "benchmarks", "sitecustomize"}
)


def libraries(modules: Iterable[str]) -> list[str]:
    """Those that are not the platform's own, in the order of their import."""
    return [name for name in modules if name.partition(".")[0] not in {*OURS, "__main__"}]


def load(names: Sequence[str]) -> int:
    """Imports them, and returns how many there are to import.

    A few are none: libraries put things among the modules that nobody could import by name.
    """
    loaded = 0
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:
            continue
        loaded += 1
    return loaded


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    names = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    print(json.dumps({"libraries": load(names)}), flush=True)
    os._exit(0)  # others still load: nothing is torn down beside them

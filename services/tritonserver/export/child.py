"""The process that exports a model: it knows the model's kind; the command line starts it.

It reads one JSON object from standard input (`source`, `repository`, `kind`, `options`) and writes
one to standard output: the folders that it wrote, or the failure.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from services.errors import DomainError
from services.tritonserver.export.options import ExportOptions, read_options

Export = Callable[[Path, Path, str, ExportOptions], list[Path]]
"""Takes the folder, the repository, the kind of model and the options; returns what it wrote."""


def run(export: Export) -> int:
    """Exports what standard input says; returns the exit status."""
    out = sys.stdout
    sys.stdout = sys.stderr  # libraries print, too
    given = cast("dict[str, Any]", json.loads(sys.stdin.read()))
    try:
        written = export(
            Path(given["source"]),
            Path(given["repository"]),
            str(given["kind"]),
            read_options(given["options"]),
        )
    except DomainError as error:
        failure = {"message": error.message, "field": error.field or ""}
        print(json.dumps({"failure": failure}), file=out)
        return 1
    print(json.dumps({"written": [str(path) for path in written]}), file=out)
    return 0

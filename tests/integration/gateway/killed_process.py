"""Runs a process of the platform that is killed amid its work: `killed_process.py LINES SERVICE …`.

SERVICE is `gateway` or `services.training`; what follows are its arguments. When LINES lines of its
code about batches have run, it is killed as by `kill -9`: that may be between any two of them. 0 is
never.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import threading
from types import FrameType
from typing import Any

_WATCHED = ("/gateway/batch", "/gateway/inside", "/training/batch", "/training/stores/batch")


class Killer:
    """Ends the process after so many lines."""

    def __init__(self, lines: int) -> None:
        self.left = lines

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            name = frame.f_code.co_filename
            return self if any(part in name for part in _WATCHED) else None
        if event == "line":
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def main(lines: int, service: str, arguments: list[str]) -> None:
    sys.argv = [service, *arguments]
    importlib.import_module(f"{service}.__main__")  # its imports don't count
    del sys.modules[f"{service}.__main__"]
    if lines:
        killer = Killer(lines)
        threading.settrace(killer)
        sys.settrace(killer)
    runpy.run_module(f"{service}.__main__", run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])

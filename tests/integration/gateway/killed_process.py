"""Runs a process of the platform that is killed amid its work.

`killed_process.py LINES WHERE SERVICE …`: SERVICE is `gateway` or `services.training`; what follows
are its arguments. When LINES lines of the functions that WHERE finds in `path:function` have run,
it is killed as by `kill -9`: that may be between any two of them. 0 is never.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import signal
import sys
import threading
from types import FrameType
from typing import Any


class Killer:
    """Ends the process after so many lines."""

    def __init__(self, lines: int, where: str) -> None:
        self.left = lines
        self.where = re.compile(where)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            code = frame.f_code
            return self if self.where.search(f"{code.co_filename}:{code.co_name}") else None
        if event == "line":
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def main(lines: int, where: str, service: str, arguments: list[str]) -> None:
    sys.argv = [service, *arguments]
    importlib.import_module(f"{service}.__main__")  # its imports don't count
    del sys.modules[f"{service}.__main__"]
    if lines:
        killer = Killer(lines, where)
        threading.settrace(killer)
        sys.settrace(killer)
    runpy.run_module(f"{service}.__main__", run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:4], sys.argv[4:])

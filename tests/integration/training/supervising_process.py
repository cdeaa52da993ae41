"""Runs a supervisor with scripted workers as a process: `supervising_process.py FOLDER [LINES]`.

With LINES, the process is killed, as by `kill -9`, when so many lines of the supervisor's own code
have run: at any place between two of them, a thousand rounds of luck are not needed to hit it. Says
`ready` when it begins. What would be deployed is added to the file `deployed`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from tests.integration.training.supervised import Catalogue, workshop

_WATCHED = tuple(
    f"services/training/{name}"
    for name in ("supervisor", "preparing", "publishing", "links", "journal", "trainers/local")
)


class WritingCatalogue(Catalogue):
    """Writes down what is deployed."""

    async def deploy(self, model_id: str, base: str, job_id: str, owner: str) -> str:
        with (self.weights.parent / "deployed").open("a") as file:
            file.write(f"{model_id}\n")
        return ""


class Killer:
    """Ends the process after so many lines."""

    def __init__(self, lines: int) -> None:
        self.left = lines

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "call":
            watched = any(name in frame.f_code.co_filename for name in _WATCHED)
            return self if watched else None
        if event == "line":
            self.left -= 1
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


async def main(folder: Path, lines: int) -> None:
    async with workshop(folder) as shop:
        shop.catalogue = WritingCatalogue(folder / "weights")
        supervisor, _ = shop.supervisor(interval_s=0.02)
        print("ready", flush=True)
        if lines:
            killer = Killer(lines)
            threading.settrace(killer)
            sys.settrace(killer)
        await supervisor.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))

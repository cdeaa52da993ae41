"""A worker that trains nothing, and does as a file in its folder says. As every worker it beats,
and it tells `lives` of each of its lives.

    python tiny_worker.py FOLDER ATTEMPT
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main(folder: Path, attempt: str) -> int:
    with (folder / "lives").open("a") as lives:
        lives.write(f"{attempt} {os.environ.get('RANK', '0')} {os.getpid()} {os.getppid()}\n")
    while True:
        (folder / "heartbeat").touch()
        match act(folder):
            case "exit", code:
                return int(code)
            case "starve", _:
                raise MemoryError
            case "ignore", _:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                (folder / "ignoring").touch()
            case _:
                pass
        time.sleep(0.1)


def act(folder: Path) -> tuple[str, str]:
    try:
        words = (folder / "act").read_text().split()
    except FileNotFoundError:
        return "", ""
    return (words[0], words[1] if len(words) > 1 else "") if words else ("", "")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

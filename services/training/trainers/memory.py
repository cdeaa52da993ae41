"""Tells whether the kernel has ended processes for want of memory."""

import re
from pathlib import Path
from typing import Final

_COUNT: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes the kernel has ended for want of memory so far: of this process's control
    group where that can be read, else of the whole machine. None: that can't be read either.

    `root` is where `proc` and `sys` are.
    """
    for file in (*_group_files(root), root / "proc/vmstat"):
        try:
            found = _COUNT.search(file.read_text())
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _group_files(root: Path) -> list[Path]:
    """Files in which control groups count, of either version, with those of containers, which see
    their own group as the root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    mounted = root / "sys/fs/cgroup"
    files: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inside = group.strip("/")
        if not controllers:
            files += [mounted / inside / "memory.events", mounted / "memory.events"]
        elif "memory" in controllers.split(","):
            folder = mounted / "memory"
            files += [folder / inside / "memory.oom_control", folder / "memory.oom_control"]
    return files

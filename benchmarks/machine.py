"""The machine that a benchmark runs on."""

import os
from pathlib import Path


def described() -> str:
    """Its cores and processor, and what else it has to do."""
    return (
        f"{len(os.sched_getaffinity(0))} cores of {_processor()}, "
        f"load average {os.getloadavg()[0]:.1f} at the end"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "an unnamed processor"

"""Memory that weights take, and memory that there is."""

import json
import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any, cast

import torch

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types that are read into the number type of the engine."""
WIDTHS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2}


def weight_bytes(files: Iterable[Path], float_size: int) -> int:
    """Bytes of the weights in memory, from the headers of safetensors files.

    Args:
        files: that were checked.
        float_size: bytes of a number of the type that floats are read into.
    """
    return sum(
        prod(shape) * (float_size if kind in FLOATS else WIDTHS.get(kind, 1))
        for _, kind, shape in read_headers(files)
    )


def read_headers(files: Iterable[Path]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, type and shape of each tensor of safetensors files that were checked."""
    for file in files:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in cast("dict[str, dict[str, Any]]", header).items():
            if name != "__metadata__":
                yield name, str(tensor["dtype"]), tuple(tensor["shape"])


def free_bytes(device: torch.device) -> int:
    """Bytes of memory that are free on a device, for this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_machine_free(), container_free())


def container_free(folder: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a container's limit leaves; file pages that can be dropped count as free."""
    unlimited = 2**62
    try:
        most = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return unlimited
    if most == "max":
        return unlimited
    droppable = int(statistics[statistics.index("inactive_file") + 1])
    return int(most) - used + droppable


def in_units(count: int) -> str:
    """A number of bytes for people: `9.766 KiB`."""
    power = min(3, max(0, count.bit_length() - 1) // 10)
    return f"{count / 1024**power:,.4g} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"


def _machine_free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return values["MemAvailable"]

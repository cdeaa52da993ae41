"""How much memory drawings may take."""

from collections.abc import Callable

from services.image.engine import ImageModel, TellsFreeMemory

_MEMINFO = "/proc/meminfo"
_AVAILABLE = "MemAvailable:"
_SHARE = 0.9
_ANY = 1 << 62


def budget(model: ImageModel, most_bytes: int) -> Callable[[], int]:
    """Returns what tells how many bytes drawings may take now.

    `most_bytes` is what they may take at any time; 0 leaves it at most of what is free then.
    """
    if most_bytes:
        return lambda: most_bytes
    if isinstance(model, TellsFreeMemory):
        return lambda: int(model.free_memory_bytes() * _SHARE)
    if model.info.device == "cpu":
        return lambda: int(_available() * _SHARE)
    return lambda: _ANY  # the engine says when it runs out


def _available() -> int:
    try:
        with open(_MEMINFO, encoding="ascii") as lines:
            for line in lines:
                if line.startswith(_AVAILABLE):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return _ANY

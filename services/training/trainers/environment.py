"""What of the service's environment its children get: nothing that is secret."""

import os
from collections.abc import Mapping
from typing import Final

_NAMES: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LOGNAME",
        "MALLOC_ARENA_MAX",
        "PATH",
        "PYTHONHOME",
        "PYTHONPATH",
        "SYSTEMROOT",
        "TEMP",
        "TMP",
        "TMPDIR",
        "TZ",
        "USER",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
    }
)
_PREFIXES: Final = ("CUDA_", "GOMP_", "KMP_", "LC_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "PYTORCH_")
_FIXED: Final = {
    # A worker trains on what it is given, and asks no hub for anything.
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def child_environment() -> dict[str, str]:
    """Returns the environment for a child of this process."""
    return selected(os.environ)  # noqa: TID251 - children inherit it; settings come from `load`


def selected(variables: Mapping[str, str]) -> dict[str, str]:
    """Chooses what a child needs to run at all: a list of what is wanted, since nobody can list
    all names of secrets."""
    kept = {
        name: value
        for name, value in variables.items()
        if name in _NAMES or name.startswith(_PREFIXES)
    }
    return kept | _FIXED

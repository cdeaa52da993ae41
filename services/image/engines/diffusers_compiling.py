"""Compiles a denoiser with torch.compile."""

from collections.abc import Callable
from typing import Any, cast

import torch

_SHAPES = 256
"""Of batches that are compiled; what comes after them runs as it is."""


def compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, compiled at its first call with a shape. To be asked on the thread that
    will call it: torch keeps settings of compilation by thread.

    Each shape is compiled on its own, and without trying which kernels are fast: what was drawn
    before, and the load of the machine, would else have a say in the bytes of pictures.
    """
    limits: Any = torch.compiler.config
    limits.recompile_limit = max(limits.recompile_limit, _SHAPES)
    make = cast("Any", torch.compile)  # pyright: ignore[reportUnknownMemberType]
    return make(forward, dynamic=False, options={"deterministic": True})

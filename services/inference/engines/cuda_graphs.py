"""Decode steps as CUDA graphs: hundreds of kernels that start as one."""

from collections.abc import Callable
from typing import Any

import torch

from services.inference.engines.static_decode import Recorder

WARM_UPS = 2
"""Runs before a capture: libraries set themselves up in the first, which a capture forbids."""


class CudaGraphs:
    """Records steps as CUDA graphs that share one pool of memory.

    They share it because no two run at once and nothing stays in it from one to the next: inputs
    and logits are outside. Used by the device's thread alone.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: Any = None  # a handle, whose type torch keeps to itself

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Runs a step on a stream of its own to warm up, then captures it."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    step()
            current.wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            pool = self._pool or torch.cuda.graph_pool_handle()
            # A capture that fails may leave its pool without a graph; such a one can't be joined.
            self._pool = None
            # Of this thread alone: other models' threads go on allocating meanwhile.
            with torch.cuda.graph(
                graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"
            ):
                step()
            self._pool = pool
        return graph.replay

    def reset(self) -> None:
        """The next graph begins a pool of its own; the old one goes with the last of its graphs."""
        self._pool = None


def choose_recorder(device: torch.device, *, cuda_graphs: bool) -> Recorder | None:
    """What records decode steps on a device; None where they run as they come."""
    return CudaGraphs(device) if cuda_graphs and device.type == "cuda" else None

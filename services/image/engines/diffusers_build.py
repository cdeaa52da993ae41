"""Identifies what decides the bytes of pictures beside the request: part of the fingerprint."""

import hashlib
import json
from typing import Any

import diffusers
import torch
import transformers

from services.image.engines.diffusers_settings import DiffusersSettings

_SHORT = 12


def build_of(device: torch.device, settings: DiffusersSettings, weights: str) -> str:
    """Names libraries, weights (by their digest), and how and where they draw.

    To be asked on the thread that draws.
    """
    how = settings.batching + ("_compiled" if settings.compile else "")
    return (
        f"diffusers-{diffusers.__version__}_torch-{torch.__version__}_"
        f"transformers-{transformers.__version__}_{how}_{machine_of(device)}_{weights}"
    )


def machine_of(device: torch.device) -> str:
    """Names the device, and what kernels are chosen by: processor, threads, the GPU's make.

    The processor counts beside a GPU too, for noise is drawn on it. Which one of several equal GPUs
    it is doesn't count.
    """
    facts: dict[str, Any] = {
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": torch.cpu.get_capabilities(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        cuda: Any = torch.cuda
        own = cuda.get_device_properties(device)
        facts["gpu"] = [own.name, own.major, own.minor, own.multi_processor_count]
        libraries: Any = torch.version, torch.backends.cudnn
        facts["libraries"] = [libraries[0].cuda, libraries[1].version()]
    told = json.dumps(facts, sort_keys=True, default=str)
    return f"{device.type}-{hashlib.sha256(told.encode()).hexdigest()[:_SHORT]}"

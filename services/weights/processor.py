"""Chooses device and number type."""

import torch

from services.errors import FailedPrecondition

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(wanted: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda` or `cuda:N`."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise FailedPrecondition(f"Unknown device “{wanted}”: use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FailedPrecondition(f"There is no GPU “{wanted}” here: use cpu or auto.")
    return device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The number type for `auto` or a name."""
    if wanted in ("", "auto"):
        return torch.bfloat16 if likes_bfloat16(device) else torch.float32
    if wanted not in DTYPES:
        raise FailedPrecondition(
            f"This engine has no number type “{wanted}”: use auto, {', '.join(DTYPES)}."
        )
    return DTYPES[wanted]


def likes_bfloat16(device: torch.device) -> bool:
    """Whether a device calculates in bf16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))

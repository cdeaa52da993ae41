"""What a folder of weights holds: an adapter, or a whole model."""

from pathlib import Path

_WHOLE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def holds_adapter(folder: Path) -> bool:
    """Tells whether a folder holds a LoRA adapter, as PEFT saves it, and no whole weights."""
    try:
        described = (folder / "adapter_config.json").is_file()
        return described and not any((folder / name).is_file() for name in _WHOLE_WEIGHTS)
    except (OSError, ValueError):
        return False

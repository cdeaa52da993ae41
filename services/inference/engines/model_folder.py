"""A model's folder on disk: what must be in it, what must not, and what identifies it."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

from services.errors import FailedPrecondition

WHOLE_BYTES = 64 * 2**20
"""Weights up to this size are hashed as a whole, larger ones by samples."""
SAMPLE_BYTES = 64 * 2**10
SAMPLES = 64
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class ModelFolder:
    """A folder that was checked.

    Raises:
        FailedPrecondition: it is missing or broken, not safetensors, or wants remote code; the
            message says which and what to do.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise FailedPrecondition(
                f"The model's folder “{path.name}” does not exist: deploy it from one that does."
            )
        self.path = path
        self.config = _read_json(path / "config.json")
        for name in ("config.json", "tokenizer_config.json"):
            _refuse_remote_code(name, _read_json(path / name, required=name == "config.json"))
        if "quantization_config" in self.config:
            raise FailedPrecondition(
                "config.json says that the weights are quantised, which this engine does not read: "
                "deploy the unquantised weights."
            )
        self.weights = _weights(path)
        if not any((path / name).is_file() for name in TOKENIZERS):
            raise FailedPrecondition(
                "tokenizer.json is missing: save the tokenizer into the folder with "
                "`tokenizer.save_pretrained(folder)`."
            )

    def digest(self) -> str:
        """Twelve hexadecimal digits that differ between different weights.

        Cheap: of large files, the header and samples are read.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        whole = sum(file.stat().st_size for file in self.weights) <= WHOLE_BYTES
        for file in self.weights:
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as stream:
                if whole:
                    while part := stream.read(2**20):
                        digest.update(part)
                    continue
                header = int.from_bytes(stream.read(8), "little")
                digest.update(stream.read(min(header, size)))
                for sample in range(SAMPLES):
                    stream.seek(max(0, (size - SAMPLE_BYTES)) * sample // (SAMPLES - 1))
                    digest.update(stream.read(SAMPLE_BYTES))
        return digest.hexdigest()[:12]


def _weights(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        named = cast("dict[str, str]", _read_json(index).get("weight_map") or {})
        files = [path / name for name in sorted(set(named.values()))]
        missing = [file.name for file in files if file.parent != path or not file.is_file()]
        if not files or missing:
            raise FailedPrecondition(
                f"Weights are missing: model.safetensors.index.json names "
                f"{', '.join(missing) or 'none'}; copy the whole folder again."
            )
    else:
        files = [path / "model.safetensors"]
    if not files[0].is_file():
        raise FailedPrecondition(_why_no_weights(path))
    for file in files:
        _check_header(file)
    return files


def _why_no_weights(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return (
            "This is a LoRA adapter without its base: deploy it with base_model, the ID of the "
            "model that it was trained on, or deploy merged weights."
        )
    if (path / "adapter_model.safetensors").is_file():
        return (
            "adapter_config.json is missing beside the adapter's weights: save the adapter again "
            "with `model.save_pretrained(folder)`."
        )
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickles:
        return (
            f"The weights are pickles ({', '.join(pickles[:3])}), which can run code and are never "
            f"loaded: convert them with `model.save_pretrained(folder, safe_serialization=True)`."
        )
    if any(path.glob("*.gguf")):
        return "The weights are GGUF; this engine reads safetensors: deploy the original folder."
    return "model.safetensors is missing: deploy a folder that holds weights in safetensors."


def _check_header(file: Path) -> None:
    """Finds truncated files before anything is loaded."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if not 0 < length <= size - 8:
                raise ValueError("no header")
            header: dict[str, Any] = json.loads(stream.read(length))
            ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
            if 8 + length + max(ends, default=0) != size:
                raise ValueError("cut short")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise FailedPrecondition(
                f"{file.name} is no whole safetensors file: copy it again."
            ) from error


def _read_json(file: Path, *, required: bool = True) -> dict[str, Any]:
    if not required and not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FailedPrecondition(
            f"{file.name} is missing: deploy a whole Hugging Face model folder."
        ) from None
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{file.name} can't be read as JSON: copy it again.") from error
    if not isinstance(content, dict):
        raise FailedPrecondition(f"{file.name} holds no JSON object: copy it again.")
    return cast("dict[str, Any]", content)


def _refuse_remote_code(name: str, content: dict[str, Any]) -> None:
    if content.get("auto_map"):
        raise FailedPrecondition(
            f"{name} names Python code to run (auto_map), and code of a model is never run. If "
            f"transformers knows the architecture by itself, remove `auto_map` from {name} and "
            f"deploy again."
        )

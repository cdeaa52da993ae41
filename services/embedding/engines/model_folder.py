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
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class ModelFolder:
    """A folder of a transformer that was checked.

    Raises:
        FailedPrecondition: it is missing or broken, not safetensors, or wants remote code; the
            message says which and what to do.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path)
        self.path = path
        self.config = read_json(path / "config.json")
        self.tokenizer_config = read_json(path / "tokenizer_config.json", required=False)
        _refuse_remote_code("config.json", self.config)
        _refuse_remote_code("tokenizer_config.json", self.tokenizer_config)
        if "quantization_config" in self.config:
            raise FailedPrecondition(
                "config.json says that the weights are quantised, which this engine does not read: "
                "deploy the unquantised weights."
            )
        self.weights = find_weights(path)
        if not (path / "tokenizer.json").is_file() and not (path / "vocab.txt").is_file():
            raise FailedPrecondition(
                "tokenizer.json is missing: save the tokenizer into the folder with "
                "`tokenizer.save_pretrained(folder)`."
            )


def digest(folder: Path, weights: list[Path]) -> str:
    """Twelve hexadecimal digits that differ between different weights and configurations.

    Cheap: of large files, the header and samples are read.

    Args:
        folder: the model's, whose configuration files count.
        weights: its files of weights.
    """
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.json")):
        if file.stat().st_size <= WHOLE_BYTES:
            found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    whole = sum(file.stat().st_size for file in weights) <= WHOLE_BYTES
    for file in weights:
        size = file.stat().st_size
        found.update(f"{file.relative_to(folder)}:{size}".encode())
        with file.open("rb") as stream:
            if whole:
                while part := stream.read(2**20):
                    found.update(part)
                continue
            header = int.from_bytes(stream.read(8), "little")
            found.update(stream.read(min(header, size)))
            for sample in range(SAMPLES):
                stream.seek(max(0, (size - SAMPLE_BYTES)) * sample // (SAMPLES - 1))
                found.update(stream.read(SAMPLE_BYTES))
    return found.hexdigest()[:12]


def check_folder(path: Path) -> None:
    """Refuses a folder that is not there."""
    if not path.is_dir():
        raise FailedPrecondition(
            f"The model's folder “{path.name}” does not exist: deploy it from one that does."
        )


def find_weights(path: Path) -> list[Path]:
    """The files of a folder's weights, each a whole safetensors file.

    Raises:
        FailedPrecondition: they are missing, cut short, or of another format.
    """
    index = path / "model.safetensors.index.json"
    if index.is_file():
        named = cast("dict[str, str]", read_json(index).get("weight_map") or {})
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


def read_json(file: Path, *, required: bool = True) -> dict[str, Any]:
    """An object of a JSON file; empty where the file isn't there and needn't be."""
    if not required and not file.is_file():
        return {}
    content = read_any_json(file)
    if not isinstance(content, dict):
        raise FailedPrecondition(f"{file.name} holds no JSON object: copy it again.")
    return cast("dict[str, Any]", content)


def read_any_json(file: Path) -> object:
    """What a JSON file holds."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FailedPrecondition(
            f"{file.name} is missing: deploy a whole Hugging Face model folder."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise FailedPrecondition(f"{file.name} can't be read as JSON: copy it again.") from error


def _why_no_weights(path: Path) -> str:
    pickles = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickles:
        return (
            f"The weights are pickles ({', '.join(pickles[:3])}), which can run code and are never "
            f"loaded: convert them with `model.save_pretrained(folder, safe_serialization=True)`."
        )
    if any(path.glob("*.gguf")) or any(path.glob("*.onnx")):
        return (
            "The weights are GGUF or ONNX; this engine reads safetensors: deploy the original "
            "folder."
        )
    if (path / "adapter_config.json").is_file():
        return "This is a LoRA adapter without its base: deploy merged weights."
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


def _refuse_remote_code(name: str, content: dict[str, Any]) -> None:
    if content.get("auto_map"):
        raise FailedPrecondition(
            f"{name} names Python code to run (auto_map), and code of a model is never run. If "
            f"transformers knows the architecture by itself, remove `auto_map` from {name} and "
            f"deploy again."
        )

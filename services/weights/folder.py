"""A model's folder on disk: what must be in it, what must not, and what identifies it. No torch."""

import hashlib
import json
from collections.abc import Iterable, Sequence
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
    """A folder of a transformer that was checked: its configuration, its tokenizer and its weights.

    Args:
        path: of the folder.
        takes_adapters: whether the engine can serve a LoRA adapter beside its base.
        needs_weights: whether the weights have to be there; if not, they are not looked at.

    Raises:
        FailedPrecondition: it is missing or broken, not safetensors, or wants remote code; the
            message says which and what to do.
    """

    def __init__(
        self, path: Path, *, takes_adapters: bool = False, needs_weights: bool = True
    ) -> None:
        check_folder(path)
        self.path = path
        self.config = read_model_config(path)
        self.tokenizer_config = read_json(path / "tokenizer_config.json", required=False)
        refuse_remote_code("tokenizer_config.json", self.tokenizer_config)
        self.weights = find_weights(path, takes_adapters=takes_adapters) if needs_weights else []
        if not any((path / name).is_file() for name in TOKENIZERS):
            raise FailedPrecondition(
                "tokenizer.json is missing: save the tokenizer into the folder with "
                "`tokenizer.save_pretrained(folder)`."
            )

    def digest(self) -> str:
        """Identifies weights and config.json; the other files don't count."""
        return digest(self.path, self.weights, configurations=[self.path / "config.json"])


def digest(
    folder: Path, weights: Sequence[Path], *, configurations: Iterable[Path] | None = None
) -> str:
    """Twelve hexadecimal digits that differ between different weights and configurations.

    Cheap: of large files, the header and samples are read.

    Args:
        folder: the model's.
        weights: its files of weights.
        configurations: the files within the folder that count too; unset, every JSON file.
    """
    if configurations is None:
        configurations = folder.rglob("*.json")
    found = hashlib.sha256()
    for file in sorted(configurations):
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


def find_weights(
    path: Path, *, stem: str = "model", variant: str = "", takes_adapters: bool = False
) -> list[Path]:
    """The files of a folder's weights, each a whole safetensors file.

    Args:
        path: of the folder.
        stem: how their names begin: transformers writes `model`, diffusers
            `diffusion_pytorch_model`.
        variant: what distinguishes them from others beside them, such as `fp16`.
        takes_adapters: whether the engine can serve a LoRA adapter beside its base.

    Raises:
        FailedPrecondition: they are missing, cut short, or of another format.
    """
    suffix = f".{variant}" if variant else ""
    index = path / f"{stem}.safetensors.index{suffix}.json"
    if index.is_file():
        named: Any = read_json(index).get("weight_map")
        names = cast("dict[str, object]", named) if isinstance(named, dict) else {}
        files = [path / name for name in sorted({str(name) for name in names.values()})]
        missing = [
            file.name
            for file in files
            if file.parent != path or file.suffix != ".safetensors" or not file.is_file()
        ]
        if not files or missing:
            raise FailedPrecondition(
                f"Weights are missing: {index.name} names {', '.join(missing) or 'none'}; copy the "
                f"whole folder again."
            )
    else:
        files = [path / f"{stem}{suffix}.safetensors"]
    if not files[0].is_file():
        raise FailedPrecondition(_why_no_weights(path, files[0].name, takes_adapters))
    for file in files:
        _check_header(file)
    return files


def read_model_config(path: Path) -> dict[str, Any]:
    """The `config.json` of a folder whose weights are used as they are, and no code of it.

    Raises:
        FailedPrecondition: it is missing or broken, names code to run, or quantised weights.
    """
    config = read_json(path / "config.json")
    refuse_remote_code("config.json", config)
    if "quantization_config" in config:
        raise FailedPrecondition(
            "config.json says that the weights are quantised, which this engine does not read: "
            "deploy the unquantised weights."
        )
    return config


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


def refuse_remote_code(name: str, content: dict[str, Any]) -> None:
    """Refuses what a JSON file of a model says when that is to run Python code of the model."""
    if content.get("auto_map"):
        raise FailedPrecondition(
            f"{name} names Python code to run (auto_map), and code of a model is never run. If "
            f"transformers knows the architecture by itself, remove `auto_map` from {name} and "
            f"deploy again."
        )


def _why_no_weights(path: Path, wanted: str, takes_adapters: bool) -> str:
    if (path / "adapter_config.json").is_file():
        beside = "it with base_model, the ID of the model that it was trained on, or deploy "
        return (
            f"This is a LoRA adapter without its base: deploy {beside if takes_adapters else ''}"
            f"merged weights."
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
    if any(path.glob("*.gguf")) or any(path.glob("*.onnx")):
        return (
            "The weights are GGUF or ONNX; this engine reads safetensors: deploy the original "
            "folder."
        )
    return f"{wanted} is missing: deploy a folder that holds weights in safetensors."


def _check_header(file: Path) -> None:
    """Finds truncated files before anything is loaded."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            if not 0 < length <= size - 8:
                raise ValueError("no header")
            header: dict[str, Any] = json.loads(stream.read(length))
            ends = [_end(tensor) for name, tensor in header.items() if name != "__metadata__"]
            if 8 + length + max(ends, default=0) != size:
                raise ValueError("cut short")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise FailedPrecondition(
                f"{file.name} is no whole safetensors file: copy it again."
            ) from error


def _end(tensor: dict[str, Any]) -> int:
    """Where a tensor ends in the file, counted from the header's end."""
    end = tensor["data_offsets"][1]
    numbers = [end, *tensor["shape"]]
    whole = all(isinstance(number, int) and number >= 0 for number in numbers)
    if not whole or not isinstance(tensor["dtype"], str):
        raise ValueError("no tensor")
    return end

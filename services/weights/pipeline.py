"""The folder of a diffusers pipeline: a model in parts, each in a folder of its own. No torch."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from services.errors import FailedPrecondition
from services.weights.folder import (
    PICKLES,
    check_folder,
    digest,
    find_weights,
    read_json,
    read_model_config,
    refuse_remote_code,
)

INDEX = "model_index.json"
STEMS = ("model", "diffusion_pytorch_model")
"""How weights are called: by transformers, and by diffusers."""
_BARE = re.compile(r"(Scheduler|Tokenizer|Processor|Extractor)(Fast)?$")
"""Classes that have no weights."""


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a pipeline."""

    name: str
    """Of the part and its folder: `unet`, `text_encoder`."""
    path: Path
    library: str
    """Where its class is: `diffusers`, `transformers`, or a module of diffusers' pipelines."""
    kind: str
    """Its class."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Its `config.json`; empty for what has no weights, such as schedulers and tokenizers."""
    weights: tuple[Path, ...] = ()
    """Whole safetensors files; empty for what has none."""


class PipelineFolder:
    """A folder that was checked: its weights are whole safetensors, and it wants no code to run.

    Pickles that lie beside safetensors are left alone. Load it with `use_safetensors=True`,
    `trust_remote_code=False`, `local_files_only=True` and this `variant`.

    Raises:
        FailedPrecondition: it is missing or broken, not safetensors, or wants remote code; the
            message names the component and says what to do.
    """

    def __init__(self, path: Path) -> None:
        check_folder(path)
        self.path = path
        self.index = read_json(path / INDEX)
        kind = self.index.get("_class_name")
        if not isinstance(kind, str):
            raise FailedPrecondition(
                f"{INDEX} names no class of diffusers (_class_name), and code of a model is never "
                f"run: deploy a pipeline that diffusers knows by itself."
            )
        self.kind = kind
        """The pipeline's class, such as `StableDiffusionPipeline`."""
        parts = [
            _component(path, name, cast("list[Any]", entry))
            for name, entry in self.index.items()
            if isinstance(entry, list) and any(cast("list[Any]", entry))
        ]
        variants = {part.name: _variants(part) for part in parts if _has_weights(part)}
        self.variant = _choose_variant(variants)
        """Which weights are used where a folder holds several, such as `fp16`; mostly empty."""
        self.components = {
            part.name: _with_weights(part, self.variant if self.variant in found else "")
            if (found := variants.get(part.name)) is not None
            else part
            for part in parts
        }

    @property
    def weights(self) -> list[Path]:
        """All files of weights that are used."""
        return [file for part in self.components.values() for file in part.weights]

    def digest(self) -> str:
        """Identifies weights and configurations."""
        return digest(self.path, self.weights)


def _component(folder: Path, name: str, entry: list[Any]) -> Component:
    if len(entry) != 2 or not all(isinstance(part, str) for part in entry):
        raise FailedPrecondition(
            f"{INDEX} does not say library and class of {name}: copy the whole folder again."
        )
    library, kind = cast("list[str]", entry)
    path = folder / name
    if name in ("", "..") or name != Path(name).name or not path.is_dir():
        raise FailedPrecondition(
            f"{INDEX} names {name}, which is no folder in the model's: copy the whole folder again."
        )
    if (path / f"{library}.py").is_file() or not _is_known(library):
        raise FailedPrecondition(
            f"{INDEX} names Python code to run for {name} (“{library}”), and code of a model is "
            f"never run: deploy a pipeline of diffusers and transformers only."
        )
    with _within(name):
        for file in sorted(path.glob("*_config.json")):
            refuse_remote_code(file.name, read_json(file))
    return Component(name, path, library, kind)


def _is_known(library: str) -> bool:
    if library in ("diffusers", "transformers"):
        return True
    if not library.isidentifier():
        return False
    try:
        return find_spec(f"diffusers.pipelines.{library}") is not None
    except ImportError:
        return False


def _has_weights(part: Component) -> bool:
    if any(any(part.path.glob(pattern)) for pattern in ("*.safetensors", *PICKLES)):
        return True
    return (part.path / "config.json").is_file() and not _BARE.search(part.kind)


def _stem(part: Component) -> str:
    """How the names of its weights begin."""
    found = [stem for stem in STEMS if any(part.path.glob(f"{stem}*.safetensors"))]
    return found[0] if found else STEMS[part.library == "diffusers"]


def _variants(part: Component) -> frozenset[str]:
    """Marks of the weights that lie in its folder; those without one are the empty string."""
    name = re.compile(
        rf"{_stem(part)}(\.(?P<file>\w+))?\.safetensors(\.index(\.(?P<index>\w+))?\.json)?"
    )
    matches = (name.fullmatch(file.name) for file in part.path.iterdir())
    return frozenset(match["file"] or match["index"] or "" for match in matches if match)


def _choose_variant(found: Mapping[str, frozenset[str]]) -> str:
    """The one that all have that have no weights without a mark."""
    marked = [variants for variants in found.values() if variants and "" not in variants]
    if not marked:
        return ""
    common = frozenset[str].intersection(*marked)
    if not common:
        raise FailedPrecondition(
            "The components' weights are of different variants "
            f"({', '.join(sorted(frozenset[str]().union(*marked)))}): deploy a folder that holds "
            f"one for all."
        )
    return "fp16" if "fp16" in common else min(common)


def _with_weights(part: Component, variant: str) -> Component:
    with _within(part.name):
        return replace(
            part,
            config=read_model_config(part.path),
            weights=tuple(find_weights(part.path, stem=_stem(part), variant=variant)),
        )


@contextmanager
def _within(name: str) -> Generator[None, None, None]:
    """Says in which component something was wrong."""
    try:
        yield
    except FailedPrecondition as refusal:
        raise FailedPrecondition(f"In {name}: {refusal.message}") from refusal

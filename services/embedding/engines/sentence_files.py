"""Reads the files that sentence-transformers puts beside a transformer: what follows its layers.

`modules.json` lists the parts of a model, each with a folder; `config_sentence_transformers.json`
holds its prompts. A folder without them is a bare transformer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from services.embedding.engines.pooling import MODES
from services.errors import FailedPrecondition
from services.weights.folder import check_folder, read_any_json, read_json

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


@dataclass(frozen=True, slots=True)
class DenseFolder:
    """A linear layer after pooling."""

    path: Path


@dataclass(frozen=True, slots=True)
class Normalizing:
    """Vectors are scaled to length 1 at this point."""


After = DenseFolder | Normalizing


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """What the files say."""

    transformer: Path
    """Folder of the transformer itself."""
    modes: tuple[str, ...] = ()
    """How states are pooled; empty where the files don't say."""
    pools_prompt: bool = True
    """Whether a prompt's tokens count in pooling."""
    after: tuple[After, ...] = ()
    """What follows pooling, in order."""
    max_length: int = 0
    """Most tokens of an input; 0 where the files don't say."""
    lowercase: bool = False
    """Whether texts are made lower-case beforehand."""
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    default_prompt: str = ""
    shortening: bool = False
    """Whether the files say that vectors keep their meaning when they are cut."""


def read_sentence_files(path: Path) -> SentenceFiles:
    """Reads them.

    Raises:
        FailedPrecondition: they are broken, or name a part that this engine doesn't compute.
    """
    check_folder(path)
    modules = _modules(path)
    transformer = modules[0][1] if modules else path
    modes: tuple[str, ...] = ()
    pools_prompt = True
    after: list[After] = []
    for kind, folder in modules[1:]:
        match kind:
            case "Pooling" if not modes:
                modes, pools_prompt = _pooling(folder)
            case "Dense" if modes:
                after.append(DenseFolder(folder))
            case "Normalize" if modes:
                after.append(Normalizing())
            case "Dropout":
                pass
            case _:
                raise FailedPrecondition(
                    f"modules.json has a part {kind} at a place where this engine can't compute "
                    f"it: it runs a Transformer, then Pooling, then Dense and Normalize."
                )
    if modules and not modes:
        raise FailedPrecondition(
            "modules.json names no Pooling, so there is no one vector for a text: save the model "
            "again with sentence-transformers, with a Pooling module."
        )
    prompts, default = _prompts(path)
    limits = _transformer_config(transformer)
    return SentenceFiles(
        transformer=transformer,
        modes=modes,
        pools_prompt=pools_prompt,
        after=tuple(after),
        max_length=_positive(limits.get("max_seq_length"), "max_seq_length"),
        lowercase=bool(limits.get("do_lower_case")),
        prompts=prompts,
        default_prompt=default,
        shortening=_shortens(path, transformer),
    )


def _modules(path: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each part; empty for a bare transformer."""
    if not (path / MODULES).is_file():
        return []
    listed = read_any_json(path / MODULES)
    found: list[tuple[str, Path]] = []
    for entry in cast("list[Any]", listed if isinstance(listed, list) else [None]):
        try:
            kind, name = str(entry["type"]).rsplit(".", 1)[-1], str(entry["path"])
        except (TypeError, KeyError):
            raise FailedPrecondition(
                "modules.json is no list of parts with `type` and `path`: copy it again."
            ) from None
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise FailedPrecondition("modules.json names a folder outside of the model's.")
        found.append((kind, path / name))
    if not found or found[0][0] != "Transformer":
        raise FailedPrecondition(
            f"The first part in modules.json is {found[0][0] if found else 'missing'}; this engine "
            f"runs models that begin with a Transformer."
        )
    return found


def _pooling(folder: Path) -> tuple[tuple[str, ...], bool]:
    config = read_json(folder / "config.json")
    given: Any = config.get("pooling_mode")
    if given is None:
        given = [mode for key, mode in _LEGACY_MODES.items() if config.get(key)] or ["mean"]
    modes = tuple(cast("list[str]", given)) if isinstance(given, list) else (str(given),)
    for mode in modes:
        if mode not in MODES:
            raise FailedPrecondition(
                f"The pooling “{mode}” is not known here: use one of {', '.join(MODES)}."
            )
    return modes, bool(config.get("include_prompt", True))


def _prompts(path: Path) -> tuple[dict[str, str], str]:
    config = read_json(path / PROMPTS, required=False)
    given: Any = config.get("prompts") or {}
    if not isinstance(given, dict):
        raise FailedPrecondition(f"`prompts` in {PROMPTS} is no object of names and texts.")
    prompts = {
        name: text
        for name, text in cast("dict[str, Any]", given).items()
        if isinstance(text, str)  # null stands for none
    }
    default = str(config.get("default_prompt_name") or "")
    if default and default not in prompts:
        raise FailedPrecondition(
            f"default_prompt_name in {PROMPTS} is “{default}”, which `prompts` doesn't hold: add "
            f"it there or take it out."
        )
    return prompts, default


def _transformer_config(folder: Path) -> dict[str, Any]:
    for name in _TRANSFORMER_CONFIGS:
        if config := read_json(folder / name, required=False):
            task = config.get("transformer_task", "feature-extraction")
            if task != "feature-extraction":
                raise FailedPrecondition(
                    f"{name} says that the transformer does {task}; an embedding model does "
                    f"feature-extraction."
                )
            return config
    return {}


def _shortens(path: Path, transformer: Path) -> bool:
    """Whether the folder says Matryoshka.

    Said by `is_matryoshka`, `matryoshka_dimensions` or `matryoshka_dims` in config.json (as vLLM
    and Jina's models have it), by those or `truncate_dim` in config_sentence_transformers.json, or
    by the tag that sentence-transformers puts into the model card after training with its
    MatryoshkaLoss.
    """
    for file, keys in (
        (transformer / "config.json", ("is_matryoshka",)),
        (path / PROMPTS, ("is_matryoshka", "truncate_dim")),
    ):
        config = read_json(file, required=False)
        if any(config.get(key) for key in (*keys, "matryoshka_dimensions", "matryoshka_dims")):
            return True
    card = path / "README.md"
    if not card.is_file():
        return False
    with card.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(2**16)
    parts = head.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return False
    tags = {line.strip().removeprefix("- ").strip("'\" ") for line in parts[1].splitlines()}
    return bool(tags & {"loss:MatryoshkaLoss", "loss:Matryoshka2dLoss", "matryoshka"})


def _positive(value: object, name: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or value < 1:
        raise FailedPrecondition(f"`{name}` has to be a positive number: correct it.")
    return value

"""What `penstock triton export` hands to the process that knows the model's kind."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from services.cli.failures import Failure
from services.errors import DomainError
from services.tritonserver.export.options import read_options
from services.tritonserver.export.writing import check_free

EXPORTERS: Mapping[str, str] = {
    "chat": "services.inference.engines.triton_export",
    "completion": "services.inference.engines.triton_export",
    "embedding": "services.embedding.engines.triton_export",
    "rerank": "services.embedding.engines.triton_export",
    "image": "services.image.engines.triton_export",
}
"""Modules that export, by kind of model."""
FLAGS: Mapping[str, str] = {
    "gpus": "--gpu",
    "preferred_batch_sizes": "--preferred-batch-size",
    "queue_timeout_s": "--queue-timeout",
}
"""Options that are named otherwise than their fields."""
_ADVICE = {
    "ModuleNotFoundError": "The exporter needs the libraries of the model's engine: install the "
    "extras `torch` (for images: `image`) and `triton` of this package.",
}


@dataclass(frozen=True, slots=True)
class Order:
    """A model that is to be exported."""

    source: Path
    repository: Path
    kind: str
    options: Mapping[str, Any]
    """Those that were given, by their fields of `ExportOptions`."""


def kind_of(folder: Path) -> str:
    """What a folder holds, as its files say; empty where they don't."""
    if (folder / "model_index.json").is_file():
        return "image"
    if (folder / "modules.json").is_file():
        return "embedding"
    named = _architectures(folder)
    if any(name.endswith("ForSequenceClassification") for name in named):
        return "rerank"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in named):
        return "chat"
    return "embedding" if named else ""


def export(order: Order) -> list[str]:
    """Has a process export it; returns the folders that were written."""
    try:  # what can be seen here at once
        options = read_options(order.options)
        check_free(order.repository, options.name, options)
    except DomainError as error:
        raise _about(error.message, error.field or "") from error
    given = {
        "source": str(order.source.absolute()),
        "repository": str(order.repository.absolute()),
        "kind": order.kind,
        "options": dict(order.options),
    }
    command = [sys.executable, "-m", EXPORTERS[order.kind]]
    done = subprocess.run(
        command, input=json.dumps(given), capture_output=True, text=True, check=False
    )
    try:
        answer = cast("dict[str, Any]", json.loads(done.stdout))
    except ValueError:
        raise _crashed(done.stderr, done.returncode) from None
    if "written" in answer:
        return cast("list[str]", answer["written"])
    failure = cast("dict[str, str]", answer["failure"])
    raise _about(failure["message"], failure["field"])


def _about(message: str, field: str) -> Failure:
    flag = FLAGS.get(field, f"--{field.replace('_', '-')}")
    return Failure(message, field=field, hint=f"It is about {flag}." if field else "")


def _architectures(folder: Path) -> list[str]:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        named = config.get("architectures") or [str(config["model_type"])]
    except (OSError, ValueError, KeyError, AttributeError):
        return []
    return [str(name) for name in cast("list[object]", named)]


def _crashed(said: str, status: int) -> Failure:
    last = said.strip().splitlines()[-1:] or [f"It ended with status {status}."]
    advice = next((words for name, words in _ADVICE.items() if name in last[0]), "")
    return Failure(f"The exporter failed: {last[0]}", hint=advice)

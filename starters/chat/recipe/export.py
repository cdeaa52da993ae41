"""Writes the Hugging Face folder; files are renamed into place, so readers never see half."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import save_file
from tokenizers import Tokenizer

from starters.chat.recipe import tokenizer as bpe
from starters.chat.recipe.network import Network, llama_config, named_weights


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def export(network: Network, tokenizer: Tokenizer, folder: Path) -> None:
    """Exports weights, configuration, tokenizer and chat template."""
    eos, pad = tokenizer.token_to_id(bpe.END), tokenizer.token_to_id(bpe.PAD)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as made:
        draft = Path(made)
        _write(draft / "config.json", llama_config(network.shape, eos, pad))
        _write(
            draft / "generation_config.json",
            {"eos_token_id": [eos], "pad_token_id": pad, "do_sample": False},
        )
        bpe.save(tokenizer, draft)
        save_file(named_weights(network), draft / "model.safetensors", metadata={"format": "pt"})
        for path in draft.iterdir():
            path.chmod(0o644)
            path.replace(folder / path.name)

"""Where the recipe keeps what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent.parent
MODEL: Final = HERE / "model"
SHEET: Final = HERE / "samples.png"
WORK: Final = HERE / ".work"
AUTOENCODER: Final = WORK / "autoencoder"
TOKENIZER: Final = WORK / "tokenizer"
READER: Final = WORK / "reader"
SKETCH: Final = WORK / "sketch.pt"
LATENTS: Final = WORK / "latents"
CHECKPOINT: Final = WORK / "checkpoint.pt"

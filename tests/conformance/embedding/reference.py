"""What transformers' own code computes of one input alone, in float32."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
)

from services.embedding.engine import Encoder, Tokens

Vectors = NDArray[np.float32]


class Reference:
    """A model of transformers."""

    def __init__(self, folder: Path, *, scores_pairs: bool = False) -> None:
        config = AutoConfig.from_pretrained(folder)
        make: Any = AutoModel
        if scores_pairs:
            make = AutoModelForSequenceClassification
        elif config.model_type == "t5":
            make = AutoModelForTextEncoding
        self._model = make.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    @torch.inference_mode()
    def states(self, ids: Sequence[int]) -> Vectors:
        """`[tokens, width]`."""
        return self._model(torch.tensor([list(ids)])).last_hidden_state[0].numpy()

    def mean(self, batch: Sequence[Tokens]) -> Vectors:
        """Means of the states of inputs."""
        return np.stack([self.states(tokens.ids).mean(0) for tokens in batch])

    @torch.inference_mode()
    def score(self, tokens: Tokens, *, types: bool) -> float:
        """Sigmoid of the one logit of a pair."""
        arguments = {"input_ids": torch.tensor([list(tokens.ids)])}
        if types:
            assert tokens.second_from is not None
            kinds = [int(place >= tokens.second_from) for place in range(len(tokens.ids))]
            arguments["token_type_ids"] = torch.tensor([kinds])
        return float(self._model(**arguments).logits[0, 0].sigmoid())


def inputs(encoder: Encoder, texts: Sequence[str], *, prefix: str = "") -> list[Tokens]:
    """Texts as the engine takes them."""
    ids = encoder.text.encode(texts, prefix=prefix)
    return [encoder.text.single(each, prefix=prefix) for each in ids]


def matrix(vectors: Sequence[bytes]) -> Vectors:
    """Vectors of an engine."""
    return np.stack([np.frombuffer(vector, "<f4") for vector in vectors])


def cosines(first: Vectors, second: Vectors) -> Vectors:
    """Of vectors in pairs."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / norms

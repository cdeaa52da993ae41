"""Reads prompts with CLIP text encoders, in as many pieces as it takes, and weighs their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from services.image.prompts import plain, weighted

_BACK: Final = 20
"""So many tokens before the end of a piece, a comma may end it."""
MOST_PIECES: Final = 32
_SMALL: Final = 0.5
_LARGE: Final = 2.0

Piece = Sequence[tuple[int, float]]
"""Tokens, without special ones, and their weights."""


def pieces_of(tokenizer: Any, text: str, *, weighs: bool) -> list[Piece]:
    """The pieces of a prompt, at least one."""
    most = int(tokenizer.model_max_length) - int(tokenizer.num_special_tokens_to_add())
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    pieces: list[Piece] = []
    for stretch in weighted(text) if weighs else plain(text):
        left = [
            (token, part.weight)
            for part in stretch
            for token in tokenizer(part.text, add_special_tokens=False, verbose=False)["input_ids"]
        ]
        while len(left) > most:
            commas = [at for at in range(most - _BACK, most) if left[at][0] == comma]
            end = commas[-1] + 1 if commas else most
            pieces.append(left[:end])
            left = left[end:]
        pieces.append(left)
    return pieces


@dataclass(frozen=True, slots=True)
class ClipReader:
    """Reads with one text encoder."""

    tokenizer: Any
    encoder: Any
    inner: bool
    """Whether states before the last layer are taken, unnormalised, as SDXL does."""

    def read(self, pieces: Sequence[Piece], clip_skip: int) -> tuple[Tensor, Tensor]:
        """States of all pieces, of shape (1, tokens, width), and what the first is in a word."""
        read = [self._read(piece, clip_skip) for piece in pieces]
        return torch.cat([states for states, _ in read], dim=1), read[0][1]

    def _read(self, piece: Piece, clip_skip: int) -> tuple[Tensor, Tensor]:
        """Each piece is read alone, so that it is the same whatever comes with it."""
        tokenizer, encoder = self.tokenizer, self.encoder
        ids = [tokenizer.bos_token_id, *(token for token, _ in piece), tokenizer.eos_token_id]
        ids += [tokenizer.pad_token_id] * (int(tokenizer.model_max_length) - len(ids))
        found = encoder(torch.tensor([ids], device=encoder.device), output_hidden_states=True)
        if self.inner:
            states = found.hidden_states[-(clip_skip + 1)]
        elif clip_skip > 1:
            states = encoder.final_layer_norm(found.hidden_states[-clip_skip])
        else:
            states = found[0]
        return _weighed(states, piece), found[0]


def _weighed(states: Tensor, piece: Piece) -> Tensor:
    """States times the weights of their tokens, brought back to the mean they had."""
    if all(weight == 1.0 for _, weight in piece):
        return states
    factors = torch.ones(states.shape[1], device=states.device)
    factors[1 : len(piece) + 1] = torch.tensor([weight for _, weight in piece])
    heavy = states.float() * factors[:, None]
    back = float(states.float().mean() / heavy.mean())
    # A mean about zero says nothing, and would blow the states up.
    return (heavy * back if _SMALL < back < _LARGE else heavy).to(states.dtype)

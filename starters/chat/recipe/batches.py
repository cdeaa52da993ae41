"""Packs conversations into rows; a batch is a pure function of the seed and the step."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from starters.chat.recipe.curriculum import SEED, Rows, draw, lesson
from starters.chat.recipe.rendering import render
from starters.chat.recipe.tokenizer import END, START

Ints = NDArray[np.int64]
_MISSES: Final = 40


@dataclass(frozen=True, slots=True)
class Batch:
    """Packed rows: tokens, which conversation each belongs to, and its position there.

    `at` are the flat positions that predict, `target` the tokens to predict there and `weight` is
    zero for filling.
    """

    tokens: Ints
    owner: Ints
    position: Ints
    at: Ints
    target: Ints
    weight: NDArray[np.float32]


class Encoder:
    """Turns conversations into tokens, and marks those that the assistant says."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._end = tokenizer.token_to_id(END)
        header = tokenizer.encode(f"{START}assistant\n", add_special_tokens=False).ids
        self._header = header

    def encode(self, text: str) -> tuple[list[int], list[bool]]:
        """The tokens, and for each whether it is part of an answer."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        said = [False] * len(ids)
        size, speaking, i = len(self._header), False, 0
        while i < len(ids):
            if not speaking and ids[i : i + size] == self._header:
                speaking = True
                i += size
                continue
            said[i] = speaking
            speaking = speaking and ids[i] != self._end
            i += 1
        return ids, said


def batch(encoder: Encoder, step: int) -> Batch:
    """Draws conversations until the rows are full; each goes where it leaves the least room."""
    rows = lesson(step).rows(step)
    rng = Random(f"{SEED} {step}")
    mixture = lesson(step).mixture(step)
    names, weights = tuple(mixture), tuple(mixture.values())
    tokens = np.zeros((rows.count, rows.length), np.int64)
    owner = np.zeros_like(tokens)
    position = np.zeros_like(tokens)
    used = [0] * rows.count
    at: list[int] = []
    target: list[int] = []
    misses = drawn = 0
    while misses < _MISSES:
        example = draw(rng.choices(names, weights)[0], rng, held_out=False)
        ids, said = encoder.encode(render(example.messages, example.tools))
        if len(ids) > rows.length:
            continue
        fitting = [r for r in range(rows.count) if used[r] + len(ids) <= rows.length]
        if not fitting:
            misses += 1
            continue
        row = max(fitting, key=used.__getitem__)
        start, stop = used[row], used[row] + len(ids)
        drawn += 1
        tokens[row, start:stop] = ids
        owner[row, start:stop] = drawn
        position[row, start:stop] = np.arange(len(ids))
        used[row] = stop
        for offset in range(1, len(ids)):
            if said[offset]:
                at.append(row * rows.length + start + offset - 1)
                target.append(ids[offset])
    return Batch(tokens, owner, position, *_filled(rng, rows, at, target))


def _filled(
    rng: Random,
    rows: Rows,
    at: list[int],
    target: list[int],
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Cuts or fills the supervised positions to their fixed number."""
    room = int(rows.count * rows.length * rows.supervised)
    kept = sorted(rng.sample(range(len(at)), room)) if len(at) > room else range(len(at))
    where, what = np.zeros(room, np.int64), np.zeros(room, np.int64)
    weight = np.zeros(room, np.float32)
    where[: len(kept)] = [at[i] for i in kept]
    what[: len(kept)] = [target[i] for i in kept]
    weight[: len(kept)] = 1.0
    return where, what, weight

"""Builds the tokenizer: byte-level BPE in CLIP's form, learnt from captions of the scenes."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from starters.image.recipe.curriculum import SEED, sampled

START: Final = "<|startoftext|>"
END: Final = "<|endoftext|>"
LENGTH: Final = 77
_MERGES: Final = 1000
_CAPTIONS: Final = 40_000
_RARE: Final = 3
_LAST: Final = "</w>"

# Words that people write to image models: cheap to know, though no scene goes with them.
_EXTRA: Final = (
    "a the of in on with and at by to from cat dog man woman person car bird fish horse girl boy "
    "portrait landscape photo realistic style painting digital art beautiful colorful colourful "
    "light dark bright soft sharp focus background foreground detailed highly quality best high "
    "low blurry bad ugly worst text watermark lowres moon star stars sky cloud river road street "
    "garden winter summer spring autumn snow rain fire space planet robot castle dragon"
)


def _corpus() -> Counter[str]:
    rng = Random(f"{SEED} tokenizer")
    reader = CLIPTokenizer()  # splits and lowers as the finished tokenizer will
    split = reader.backend_tokenizer.pre_tokenizer
    normal = reader.backend_tokenizer.normalizer
    words: Counter[str] = Counter()
    for _ in range(_CAPTIONS):
        caption = normal.normalize_str(sampled(rng).caption)
        words.update(word for word, _ in split.pre_tokenize_str(caption))
    words.update(dict.fromkeys(_EXTRA.split(), 40))
    return words


def merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    """The pairs to merge, most frequent first (ties by spelling, so that order is certain)."""
    spelled = {
        word: [*word[:-1], word[-1] + _LAST] for word, times in words.items() if times >= _RARE
    }
    made: list[tuple[str, str]] = []
    while len(made) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        made.append(best)
        for word, parts in spelled.items():
            spelled[word] = _merged(parts, best)
    return made


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    done: list[str] = []
    for part in parts:
        if done and (done[-1], part) == pair:
            done[-1] += part
        else:
            done.append(part)
    return done


def build(folder: Path) -> CLIPTokenizer:
    """Learns the tokenizer and saves it. Every byte is a token, so any text can be read."""
    letters = sorted(ByteLevel.alphabet())
    learnt = merges(_corpus(), _MERGES)
    tokens = [*letters, *(letter + _LAST for letter in letters)]
    tokens += [one + other for one, other in learnt]
    tokens = [*dict.fromkeys(tokens), START, END]
    made = CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=learnt,
        model_max_length=LENGTH,
    )
    made.save_pretrained(folder)
    return made


def tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer: the saved one, or a new one where none is."""
    if (folder / "tokenizer.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    return build(folder)

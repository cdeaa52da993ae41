"""Trains the byte-level BPE tokenizer on generated conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from starters.chat.recipe.curriculum import LESSONS, SEED, draw
from starters.chat.recipe.rendering import TEMPLATE, render

VOCABULARY: Final = 3072
CONTEXT: Final = 2048
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKS: Final = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
# A word has the same tokens after a space, a quote or a bracket, which makes copying it a matter
# of repeating tokens: the space is a piece of its own, and a capital or a digit begins one.
PIECES: Final = (
    r"'(?:s|t|re|ve|m|ll|d)\b|\p{Ll}+|\p{Lu}+(?!\p{Ll})|\p{Lu}\p{Ll}*|\p{N}"
    r"|[\p{Lo}\p{Lm}\p{Lt}\p{M}]+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?=\s)|\s"
)
_SAMPLES: Final = 40_000


def _texts() -> Iterator[str]:
    rng = Random(f"{SEED} tokenizer")
    for step in range(_SAMPLES):
        mixture = LESSONS[0].mixture(step)
        name = rng.choices(tuple(mixture), tuple(mixture.values()))[0]
        example = draw(name, rng, held_out=False)
        yield render(example.messages, example.tools)


def train() -> Tokenizer:
    """Trains the tokenizer; every byte is in the vocabulary, so any text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=16,
    )
    # Room is left for the marks of tool calls, which are plain tokens: decoding keeps them.
    trainer.vocab_size = VOCABULARY - len(MARKS)
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {
        str(i): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "added_tokens_decoder": added,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": CONTEXT,
        "pad_token": PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text())

"""Walks forms byte by byte, over a vocabulary of single bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.inference.engine import SamplingParams
from services.inference.engines.grammar_compiler import GrammarCompiler, Vocabulary
from services.inference.engines.grammar_masks import CompiledGrammar

EOS, MARK = 256, 257
VOCABULARY = Vocabulary(
    [bytes([byte]) for byte in range(256)] + [b"<eos>", b"<mark>", b"", b"ab"],
    {"<eos>": EOS, "<mark>": MARK},
    [EOS],
)
PARAMS = SamplingParams(max_tokens=100, seed=0)


@contextmanager
def compiler() -> Iterator[GrammarCompiler]:
    made = GrammarCompiler(VOCABULARY)
    try:
        yield made
    finally:
        made.close()


def takes(form: object, text: str | bytes | list[int]) -> bool:
    """Whether a whole text has a form."""
    return read(form, text) == len(text.encode() if isinstance(text, str) else text) + 1


def read(form: object, text: str | bytes | list[int]) -> int:
    """Tokens of a text that a form allows, and one more where it is complete behind it."""
    assert isinstance(form, CompiledGrammar)
    tokens = list(text.encode() if isinstance(text, str) else text)
    state = form.follow([], PARAMS)
    for place, token in enumerate([*tokens, EOS]):
        if state.blocked()[token]:
            return place
        state.note(token)
    return len(tokens) + 1

"""Whether a converted model computes the same as the original: tokens and log-probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from services.inference.engines.openvino_messages import Add, Start
from services.inference.engines.openvino_worker import Pipeline

PROMPTS = (37, 6)
"""Lengths: two in one batch, and the longer one read in several steps."""
TOKENS = 6
TOLERANCE = {"f32": 0.01, "f16": 0.1}
"""Largest difference of a log-probability from torch's, by the type of the stored weights."""


class ConversionError(Exception):
    """The model can't be converted; the message says why."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What torch answers to a prompt."""

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]


@torch.inference_mode()
def expect(model: Any) -> list[Expected]:
    """What torch takes for the most probable tokens, by one plain forward pass after the other."""
    return [_answer(model, length) for length in PROMPTS]


def check(target: Path, expected: Sequence[Expected], weights: str) -> None:
    """Compares a converted model with what torch answered.

    Raises:
        ConversionError: they differ.
    """
    start = Start(
        folder=str(target),
        precision="f32",
        slots=len(expected),
        step_tokens=16,
        blocks=2 * len(expected),
        prefix_caching=False,
        threads=0,
    )
    try:
        pipeline = Pipeline(start)
        for key, one in enumerate(expected):
            pipeline.add(_greedy(key, one.prompt))
        found: dict[int, list[tuple[int, float]]] = {key: [] for key in range(len(expected))}
        while pipeline.due:
            for gained in pipeline.step():
                found[gained.key] += zip(gained.tokens, gained.logprobs, strict=True)
    except Exception as error:
        raise ConversionError(f"its attention can't be paged ({error})") from error
    for key, one in enumerate(expected):
        _compare(one, found[key], TOLERANCE[weights])


def _answer(model: Any, length: int) -> Expected:
    vocabulary = int(model.config.vocab_size)
    prompt = [(7 + length + 5 * place) % vocabulary for place in range(length)]
    tokens: list[int] = []
    logprobs: list[float] = []
    for _ in range(TOKENS):
        logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits[0, -1]
        best = torch.log_softmax(logits.float(), dim=-1).max(dim=-1)
        tokens.append(int(best.indices))
        logprobs.append(float(best.values))
    return Expected(prompt, tokens, logprobs)


def _compare(expected: Expected, found: list[tuple[int, float]], tolerance: float) -> None:
    if len(found) != len(expected.tokens):
        raise ConversionError("OpenVINO stops early with it")
    pairs = zip(expected.tokens, expected.logprobs, found, strict=True)
    for token, logprob, (other, own) in pairs:
        if not abs(logprob - own) < tolerance:  # NaN neither
            raise ConversionError(
                f"OpenVINO computes something else than torch: a log-probability of {own:.4f} "
                f"instead of {logprob:.4f}"
            )
        if token != other:  # a near-tie; what follows can't be compared
            return


def _greedy(key: int, prompt: list[int]) -> Add:
    return Add(key, prompt, TOKENS, scored=True)

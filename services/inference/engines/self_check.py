"""Proves at load time that a model computes the same in our batches as by itself.

The engine gives the model its own attention memory, masks and positions. Families differ in what
they do with them; one that does something else is refused instead of answering subtly wrong.
"""

import logging

import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.errors import FailedPrecondition
from services.inference.engine import GroupRequest, SamplingParams, SequenceRequest
from services.inference.engines.kv_pool import rounded
from services.inference.engines.memory_ops import Resize
from services.inference.engines.sequences import GroupState, SequenceState
from services.inference.engines.steps import Span
from services.inference.engines.torch_runner import TorchRunner

_log = logging.getLogger(__name__)

LENGTHS = (11, 6)
TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 8e-2}
"""Largest difference of logits, as a share of their norm."""


def check_runner(
    model: PreTrainedModel,
    runner: TorchRunner,
    *,
    vocabulary_size: int,
    context_length: int,
    rounds_in: torch.dtype | None = None,
) -> None:
    """Compares batches with plain forward passes.

    Two sequences of different lengths are prefilled in unequal parts and decoded together. Serves
    as warm-up too.

    Args:
        model: what the runner runs.
        runner: nothing else runs on it yet.
        vocabulary_size: tokens that the model knows.
        context_length: most tokens of a sequence.
        rounds_in: the number type that products are rounded in. None: the model's.

    Raises:
        FailedPrecondition: they differ.
    """
    lengths = [min(length, context_length) for length in LENGTHS]
    sequences = [_sequence(key, length, vocabulary_size) for key, length in enumerate(lengths)]
    try:
        expected = [_plain(model, sequence.tokens) for sequence in sequences]
        actual = _batched(runner, sequences)
        differences = [_difference(*pair) for pair in zip(actual, expected, strict=True)]
    except Exception as error:
        _log.exception("the check of a model's forward pass failed")
        raise FailedPrecondition(_refusal(model)) from error
    finally:
        runner.carry_out([Resize(0, 0)])
    if not all(
        difference < TOLERANCE[rounds_in or model.dtype] for difference in differences
    ):  # NaN neither
        _log.error("logits differ by %s of their norm from a plain forward pass", differences)
        raise FailedPrecondition(_refusal(model))


def _sequence(key: int, length: int, vocabulary_size: int) -> SequenceState:
    tokens = [(7 + 3 * key + 5 * position) % vocabulary_size for position in range(length)]
    request = SequenceRequest(tokens, SamplingParams(max_tokens=0, seed=0))
    group = GroupState(GroupRequest([request]), lambda events: None, None)
    return SequenceState(-1 - key, group, 0, request, 0, tokens)


@torch.inference_mode()
def _plain(model: PreTrainedModel, tokens: list[int]) -> Tensor:
    ids = torch.tensor([tokens], device=model.device)
    return model(ids, use_cache=False).logits[0, -1].float()


def _batched(runner: TorchRunner, sequences: list[SequenceState]) -> list[Tensor]:
    """Logits of each sequence's last token, `[vocabulary]`."""
    runner.carry_out([Resize(len(sequences), rounded(max(LENGTHS)))])
    lengths = [len(sequence.tokens) for sequence in sequences]
    cuts = [(length - 1) // 2 for length in lengths]
    _pass(runner, sequences, [0] * len(cuts), cuts)
    _pass(runner, sequences, cuts, [length - 1 for length in lengths])
    logits = _pass(runner, sequences, [length - 1 for length in lengths], lengths)
    return [row[-1].float() for row in logits]


def _pass(
    runner: TorchRunner, sequences: list[SequenceState], starts: list[int], ends: list[int]
) -> list[Tensor]:
    """Computes parts of sequences together, each in its own row."""
    spans = [
        Span(sequence, start, end - start, place)
        for place, (sequence, start, end) in enumerate(zip(sequences, starts, ends, strict=True))
        if end > start
    ]
    return list(runner.logits(spans)) if spans else []


def _difference(own: Tensor, plain: Tensor) -> float:
    """Norm of the difference, as a share of the norm."""
    return float((own - plain).square().sum().sqrt() / plain.square().sum().sqrt().clamp(min=1e-6))


def _refusal(model: PreTrainedModel) -> str:
    return (
        f"{model.config.model_type} does not compute the same in batches as by itself, so this "
        f"engine can't serve it; the server's log has the details. Serve it with another engine."
    )

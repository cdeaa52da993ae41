"""Chooses what a job leaves open: epochs, batch size, learning rate. No torch."""

import math
from dataclasses import dataclass

from services.training.folder import Plan

_FEW_EXAMPLES = 400
"""Below this many examples an epoch has few steps, and more than three epochs are made."""
_MANY_EXAMPLES = 20_000
_MOST_EPOCHS = 10


@dataclass(frozen=True, slots=True)
class Choices:
    """Everything chosen."""

    epoch_count: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float


def choose(plan: Plan, example_count: int, parameter_count: int) -> Choices:
    """Fills in what the plan leaves open.

    Args:
        plan: the job's.
        example_count: examples that are trained on.
        parameter_count: of the base model.
    """
    lora = plan.lora is not None
    rate = plan.learning_rate
    if rate is None:
        rate = _learning_rate(parameter_count, lora=lora, dpo=plan.method == "dpo")
        rate *= plan.learning_rate_multiplier or 1.0
    return Choices(
        epoch_count=plan.epoch_count or _epochs(example_count),
        batch_size=min(plan.batch_size or _batch(example_count), max(1, example_count)),
        learning_rate=rate,
        warmup_ratio=0.05 if plan.warmup_ratio is None else plan.warmup_ratio,
        weight_decay=(0.0 if lora else 0.01) if plan.weight_decay is None else plan.weight_decay,
    )


def rate_at(step: int, step_count: int, warmup_ratio: float) -> float:
    """Share of the learning rate in a step, counted from 0: it rises to one and falls to nearly
    nothing, in straight lines, and no step is without any."""
    rising = math.ceil(warmup_ratio * step_count)
    if step < rising:
        return (step + 1) / rising
    return (step_count - step) / max(1, step_count - rising)


def _epochs(examples: int) -> int:
    """Three; more where there is little to learn from, fewer where there is much."""
    if examples < _FEW_EXAMPLES:
        return min(_MOST_EPOCHS, max(3, math.ceil(3 * _FEW_EXAMPLES / max(1, examples))))
    return 3 if examples < _MANY_EXAMPLES else 2 if examples < 5 * _MANY_EXAMPLES else 1


def _batch(examples: int) -> int:
    """A power of two near a fiftieth of the examples, from 1 to 32."""
    return 2 ** min(5, max(0, round(math.log2(max(1, examples) / 50))))


def _learning_rate(parameters: int, *, lora: bool, dpo: bool) -> float:
    """What small matrices take is ten times what whole weights take; small models take more than
    large ones, and preferences need gentler steps than examples."""
    whole = 2e-5 * math.sqrt(1e9 / max(1, parameters))
    rate = min(5e-4, max(1e-5, whole))
    if lora:
        rate *= 10
    return rate / 10 if dpo else rate

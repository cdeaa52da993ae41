"""Computes a step: in parts that fit into memory, the same whichever worker does it."""

import gc
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import set_seed

from services.training.folder import JobFolder
from services.training.worker.batches import parts
from services.training.worker.failures import Failed, is_out_of_memory
from services.training.worker.measures import Sums, finite
from services.training.worker.memory import Settled, write_settled
from services.training.worker.reporting import Reporter
from services.training.worker.rows import NOT_LEARNT
from services.training.worker.watch import Watch

Rows = Sequence[dict[str, list[int]]]


@dataclass(frozen=True, slots=True)
class Share:
    """What a rank computes of a step."""

    rows: Rows
    counts: bool = True
    """False where there are fewer rows than ranks: this rank only keeps the others company."""


class Computing:
    """Forward and backward passes over the rows of a step.

    Args:
        folder: of the job.
        settled: how much is computed at a time.
        seed: of the job; the randomness of each step (dropout) follows from it and the step alone.
        watch: looked at between parts.
        reporter: told when memory gets scarce.
    """

    def __init__(
        self, folder: JobFolder, settled: Settled, seed: int, watch: Watch, reporter: Reporter
    ) -> None:
        self._folder = folder
        self._settled = settled
        self._seed = seed
        self._watch = watch
        self._reporter = reporter

    def train(self, trainer: Any, model: Any, share: Share, step: int, sums: Sums) -> Tensor:
        """Adds up the gradients of a step; returns its loss.

        Raises:
            Failed: the loss is no finite number.
        """
        while True:
            _seed(f"{self._seed}:{step}:{trainer.args.process_index}")
            try:
                return self._train(trainer, model, share, sums)
            except Exception as error:
                if trainer.args.world_size > 1 or not is_out_of_memory(error):
                    raise
                smaller = self._settled.smaller(max(map(_length, share.rows)), len(share.rows))
                if smaller is None:
                    raise
            # Out of the `except`, which keeps the failed pass and its memory alive.
            self._shrink(smaller, model)

    def evaluate(self, trainer: Any, model: Any, rows: Rows) -> dict[str, float]:
        """Measures rows without learning from them."""
        sums = Sums()
        model.eval()
        try:
            for part in parts([_length(row) for row in rows], self._settled.most_tokens):
                self._watch.look_for_cancel()
                chosen = [rows[position] for position in part]
                with torch.no_grad():
                    loss = self._loss(trainer, model, chosen)
                weight = sum(map(_weight, chosen))
                sums.add("loss", float(loss), weight)
                _measure(trainer, "eval", sums, weight)
        finally:
            model.train()
        return sums.take()

    def _train(self, trainer: Any, model: Any, share: Share, sums: Sums) -> Tensor:
        model.train()
        rows = share.rows
        cut = parts([_length(row) for row in rows], self._settled.most_tokens)
        counted = len(cut) if share.counts else 0
        mine = sum(map(_weight, rows)) if share.counts else 0
        whole, rounds = _over_ranks(trainer, mine, len(cut))
        measured = Sums()
        total = torch.zeros((), device=trainer.args.device)
        for number in range(rounds):
            self._watch.look_for_cancel()
            # A rank with fewer parts than others repeats its last one, which then counts nothing.
            chosen = [rows[position] for position in cut[min(number, len(cut) - 1)]]
            weight = sum(map(_weight, chosen)) if number < counted else 0
            with _together(model, last=number == rounds - 1):
                loss = self._loss(trainer, model, chosen)
                # The mean over the part becomes its share of the mean over the step.
                loss = loss * (weight * trainer.args.world_size / whole)
                trainer.accelerator.backward(loss)
            total += loss.detach()
            _measure(trainer, "train", measured, weight)
        value = float(_mean(trainer, total))
        if not finite(value):
            raise diverged()
        for name, mean in {"loss": value, **measured.take()}.items():
            sums.add(name, mean, 1.0)
        return total

    def _loss(self, trainer: Any, model: Any, rows: Rows) -> Tensor:
        batch = trainer.data_collator([dict(row) for row in rows])
        batch = {name: tensor.to(trainer.args.device) for name, tensor in batch.items()}
        return cast("Tensor", trainer.compute_loss(model, batch))

    def _shrink(self, settled: Settled, model: Any) -> None:
        model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if settled.recompute and not self._settled.recompute:
            recompute(model)
        self._settled = settled
        write_settled(self._folder, settled)
        self._reporter.note("Memory got scarce: less is computed at a time.", "warn")


def recompute(model: Any) -> None:
    """Has activations computed again in the backward pass, instead of kept."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()


def diverged() -> Failed:
    """The failure of a training whose numbers are no longer finite."""
    return Failed(
        "training_diverged",
        "The training diverged: its loss is no finite number any more. Start it again with a "
        "smaller learning_rate or learning_rate_multiplier.",
        "job.hyperparameters.learning_rate_multiplier",
    )


def _seed(text: str) -> None:
    set_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little"))


def _length(row: dict[str, list[int]]) -> int:
    if "input_ids" in row:
        return len(row["input_ids"])
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _weight(row: dict[str, list[int]]) -> int:
    """How much a row counts in a mean: its tokens that are learnt, or one for a pair."""
    if "labels" in row:
        return sum(label != NOT_LEARNT for label in row["labels"][1:])
    return 1


def _measure(trainer: Any, mode: str, sums: Sums, weight: int) -> None:
    """Takes over what trl has measured in the part."""
    for name, value in trainer.part_metrics(mode).items():
        if weight:
            sums.add(name, value, weight)


def _together(model: Any, *, last: bool) -> AbstractContextManager[None]:
    """Lets ranks exchange gradients in the last part only."""
    return nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()


def _over_ranks(trainer: Any, weight: int, rounds: int) -> tuple[int, int]:
    """The weight of the step and its number of parts, over all ranks."""
    if trainer.args.world_size == 1:
        return weight, rounds
    mine = torch.tensor([[weight, rounds]], device=trainer.args.device)
    every = trainer.accelerator.gather(mine)
    return int(every[:, 0].sum()), int(every[:, 1].max())


def _mean(trainer: Any, value: Tensor) -> Tensor:
    return value if trainer.args.world_size == 1 else trainer.accelerator.gather(value).mean()

"""The trainers of trl, with what this service does itself: batches, parts of steps, checkpoints.

They keep optimiser, schedule, arithmetic and losses. What can't be told apart by a job's seed and
step alone would not be the same after a crash, so order and randomness come from here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from services.training.folder import Plan
from services.training.worker.base import Base
from services.training.worker.batches import Schedule
from services.training.worker.checkpoints import read_state
from services.training.worker.choices import Choices, rate_at
from services.training.worker.computing import Computing, Share, diverged
from services.training.worker.environment import world_size
from services.training.worker.material import Material
from services.training.worker.measures import Sums, finite
from services.training.worker.memory import Settled
from services.training.worker.weights import read_moments, read_weights

_SUPERVISED = {"mean_token_accuracy": "mean_token_accuracy"}
_PREFERENCES = {"rewards/accuracies": "reward_accuracy", "rewards/margins": "reward_margin"}
"""What trl measures beside the loss, and what it is called here."""


@dataclass(slots=True)
class Course:
    """What a trainer needs beside its libraries."""

    schedule: Schedule
    computing: Computing
    sums: Sums
    warmup_ratio: float
    metric_names: Mapping[str, str]


class _Batches(Sampler[list[int]]):
    """The examples of each step of the epoch that is on."""

    def __init__(self, trainer: "_Steps") -> None:
        self._trainer = trainer

    def __len__(self) -> int:
        return self._trainer.course.schedule.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        schedule = self._trainer.course.schedule
        return schedule.epoch(self._trainer.state.global_step // schedule.steps_per_epoch)


class _Steps:
    """What both trainers do in this service's way; goes before trl's class."""

    course: Course
    args: Any
    state: Any
    model: Any
    optimizer: Any
    lr_scheduler: Any
    train_dataset: Any
    _metrics: dict[str, dict[str, list[float]]]

    def __init__(self, course: Course, **options: Any) -> None:
        self.course = course
        super().__init__(**options)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The learning rate of each step."""
        del num_training_steps  # the course knows
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self._share)
        return self.lr_scheduler

    def learning_rate_in(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(self.args.learning_rate) * self._share(step)

    def _share(self, step: int) -> float:
        return rate_at(step, self.course.schedule.step_count, self.course.warmup_ratio)

    def get_train_dataloader(self) -> Any:
        """Batches of rows, which become tensors part by part."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=_Batches(self),
            collate_fn=list,
            generator=torch.Generator(),  # so that it draws nothing from the common one
        )

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The next batch, with this rank's share of it."""
        del device
        world, rank = self.args.world_size, self.args.process_index
        batches = [next(epoch_iterator) for _ in range(num_batches)]
        shares = [(batch[rank::world], batch) for batch in batches]
        return [{"share": Share(mine or batch[:1], bool(mine))} for mine, batch in shares], None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Computes a step in parts."""
        del num_items_in_batch
        course = self.course
        return course.computing.train(
            self, model, inputs["share"], self.state.global_step, course.sums
        )

    def part_metrics(self, mode: str) -> dict[str, float]:
        """What trl has measured since it was asked last."""
        measured = {name: values[-1] for name, values in self._metrics[mode].items() if values}
        self._metrics[mode].clear()
        names = self.course.metric_names
        return {ours: measured[name] for name, ours in names.items() if name in measured}

    def floating_point_ops(self, inputs: Any) -> int:
        """Isn't counted."""
        del inputs
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Does nothing: what is measured is told by `services.training.worker.steps`."""

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if grad_norm is not None and not finite(float(grad_norm)):
            raise diverged()
        return grad_norm

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read_weights(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = read_state(Path(checkpoint))
        optimizer: dict[str, Any] = self.optimizer.state_dict()
        optimizer["state"] = read_moments(Path(checkpoint))
        for group, rate in zip(optimizer["param_groups"], state.learning_rates, strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict(optimizer)
        self.lr_scheduler.last_epoch = state.step

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Does nothing: each step's randomness follows from the seed and the step."""


class SupervisedTrainer(_Steps, SFTTrainer):  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """Learns to answer as the examples do."""


class PreferenceTrainer(_Steps, DPOTrainer):  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
    """Learns to prefer the preferred answers."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Leaves rows as they are: tokens already."""
        return dataset


def make_trainer(
    plan: Plan,
    base: Base,
    choices: Choices,
    settled: Settled,
    material: Material,
    course: Course,
    reference: Any,
    callback: Any,
    output: Path,
) -> Any:
    """Makes the trainer of a plan.

    Args:
        plan: the job's.
        base: the model that is trained.
        choices: what the plan left open.
        settled: how it is computed.
        material: what is trained on.
        course: the trainer's own part.
        reference: the model as it was, for preferences that train all weights.
        callback: called after each step.
        output: a folder that is there.
    """
    common: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": max(1, choices.batch_size),
        "num_train_epochs": choices.epoch_count,
        "learning_rate": choices.learning_rate,
        "weight_decay": choices.weight_decay,
        "optim": "adamw_torch",
        "max_grad_norm": 1.0,
        "seed": plan.seed % 2**32,
        "bf16": settled.bf16,
        "fp16": False,
        "use_cpu": plan.device == "cpu" or not torch.cuda.is_available(),
        "gradient_checkpointing": settled.recompute,
        "max_length": None,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }
    if common["use_cpu"] and world_size() > 1:
        common["ddp_backend"] = "gloo"
    chosen: Any
    if plan.method == "dpo":
        config = DPOConfig(
            **common, beta=plan.beta, disable_dropout=plan.lora is None or not plan.lora.dropout
        )
        chosen, more = PreferenceTrainer, {"ref_model": reference}
        course.metric_names = _PREFERENCES
    else:
        config = SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True})
        chosen, more = SupervisedTrainer, {}
        course.metric_names = _SUPERVISED
    return chosen(
        course,
        model=base.model,
        args=config,
        train_dataset=material.rows,
        processing_class=base.tokenizer,
        peft_config=base.lora,
        callbacks=[callback],
        **more,
    )

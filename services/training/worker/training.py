"""Trains: from the plan and what earlier workers left to the result. Imports torch and trl."""

import time
from pathlib import Path
from typing import Any, cast

import transformers

from services.training.examples import Format
from services.training.folder import Chosen, JobFolder, Plan
from services.training.worker.base import Base, load_base, uses_bf16
from services.training.worker.batches import Schedule
from services.training.worker.checkpoints import (
    Checkpoints,
    State,
    Summary,
    read_state,
    write_result,
)
from services.training.worker.choices import Choices, choose
from services.training.worker.computing import Computing
from services.training.worker.material import Material, read_material
from services.training.worker.measures import Sums
from services.training.worker.memory import Settled, read_settled, settle, write_settled
from services.training.worker.reporting import Reporter
from services.training.worker.rows import RowMaker
from services.training.worker.steps import Steps, drop_old
from services.training.worker.trainers import Course, make_trainer
from services.training.worker.watch import Watch
from services.training.worker.weights import write_weights
from services.weights.processor import choose_device


def train(folder: JobFolder, plan: Plan, watch: Watch, reporter: Reporter) -> Summary:
    """Trains a job to its end, going on from its newest checkpoint.

    Raises:
        Failed: it can't be trained.
        Paused: the service wants that.
        Cancelled: the service wants that.
        Evicted: the machine wants that.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    checkpoints = Checkpoints(folder)
    if reporter.leads:
        checkpoints.clean()
        _tell_of_saved(checkpoints, reporter)
        drop_old(checkpoints, reporter, plan.max_checkpoints)
    resumed = checkpoints.resumable()
    state = None if resumed is None else read_state(checkpoints.path(resumed))
    base = load_base(plan)
    most_tokens = base.context_length(plan.context_length)
    most_tokens = min(plan.max_sequence_tokens or most_tokens, most_tokens)
    maker = RowMaker(base.text, base.ends, base.opening, learn_all=plan.target == "all")
    material, validation = _materials(folder, plan, maker, most_tokens, watch)
    choices = choose(plan, len(material.tokens), base.parameter_count)
    schedule = Schedule(
        material.tokens,
        batch_size=choices.batch_size,
        epoch_count=choices.epoch_count,
        seed=plan.seed,
    )
    settled = _settled(folder, plan, base, material, keep=reporter.leads)
    sums = Sums(None if state is None else state.sums)
    computing = Computing(folder, settled, plan.seed, watch, reporter)
    steps = Steps(plan, schedule, checkpoints, reporter, watch, sums, base.saved_as)
    reference = load_base(plan).model if plan.method == "dpo" and plan.lora is None else None
    trainer = make_trainer(
        plan,
        base,
        choices,
        settled,
        material,
        Course(schedule, computing, sums, choices.warmup_ratio, {}),
        reference,
        steps,
        folder.checkpoints,
    )
    steps.trainer = trainer
    if validation is not None:
        rows = cast("list[dict[str, list[int]]]", cast("Any", validation.rows).to_list())
        steps.evaluate = lambda: computing.evaluate(trainer, trainer.model, rows)
    reporter.chosen(_chosen(choices, schedule, most_tokens, _words(trainer, settled, material)))
    return _run(folder, plan, trainer, steps, schedule, base, state)


def _run(
    folder: JobFolder,
    plan: Plan,
    trainer: Any,
    steps: Steps,
    schedule: Schedule,
    base: Base,
    state: State | None,
) -> Summary:
    checkpoints = Checkpoints(folder)
    if state is None:
        trainer.train()
    else:
        steps.begin(state.step, state.metrics)
        trainer.train(resume_from_checkpoint=str(checkpoints.path(state.step)))
    summary = Summary(schedule.step_count, schedule.tokens_until(schedule.step_count))
    if trainer.is_world_process_zero():

        def write(path: Path) -> None:
            write_weights(trainer.model, path, plan, base.saved_as)

        write_result(folder, summary, write)
        checkpoints.strip()
    return summary


def _materials(
    folder: JobFolder, plan: Plan, maker: RowMaker, most_tokens: int, watch: Watch
) -> tuple[Material, Material | None]:
    format = Format(plan.examples)

    def material(path: Path, param: str) -> Material:
        return read_material(
            path, format, maker, most_tokens=most_tokens, param=param, look=watch.look
        )

    training = material(folder.training, "job.training_data")
    if not plan.has_validation:
        return training, None
    return training, material(folder.validation, "job.validation_data")


def _settled(
    folder: JobFolder, plan: Plan, base: Base, material: Material, *, keep: bool
) -> Settled:
    settled = read_settled(folder)
    if settled is None:
        device = choose_device(plan.device)
        settled = settle(
            plan,
            base.model,
            device,
            longest=max(material.lengths),
            trained=_trained_count(plan, base),
            bf16=uses_bf16(device, base.parameter_count),
        )
        if keep:
            write_settled(folder, settled)
    return settled


def _trained_count(plan: Plan, base: Base) -> int:
    """Parameters that are trained; an estimate for LoRA, whose matrices aren't made yet."""
    if plan.lora is None:
        return base.parameter_count
    return min(base.parameter_count, base.parameter_count * (plan.lora.rank or 16) // 128)


def _tell_of_saved(checkpoints: Checkpoints, reporter: Reporter) -> None:
    """Tells of checkpoints that a worker wrote and was killed before it told of them."""
    told = reporter.told()
    for step in checkpoints.steps():
        if step not in told:
            path = checkpoints.path(step)
            state = read_state(path)
            reporter.saved(step, state.epoch, state.metrics, checkpoints.size_bytes(step))


def _chosen(choices: Choices, schedule: Schedule, most_tokens: int, words: str) -> Chosen:
    return Chosen(
        time.time(),
        step_count=schedule.step_count,
        epoch_count=choices.epoch_count,
        batch_size=choices.batch_size,
        learning_rate=choices.learning_rate,
        warmup_ratio=choices.warmup_ratio,
        weight_decay=choices.weight_decay,
        max_sequence_tokens=most_tokens,
        words=words,
    )


def _words(trainer: Any, settled: Settled, material: Material) -> str:
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    words = [
        f"trains {trained:,} parameters on {trainer.args.device.type}"
        f" in {'bf16' if settled.bf16 else 'fp32'}",
        f"{sum(material.tokens):,} tokens an epoch, up to {settled.most_tokens:,} at a time",
    ]
    if material.cut_count:
        words.append(f"{material.cut_count} examples are too long and are cut")
    if material.dropped_count:
        words.append(f"{material.dropped_count} examples have nothing to learn and are left out")
    return "; ".join(words) + "."

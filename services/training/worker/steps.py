"""What happens after each step: measures, checkpoints, and what the service wants."""

import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from services.training.folder import Order, Plan
from services.training.worker.batches import Schedule
from services.training.worker.checkpoints import Checkpoints, State, write_state
from services.training.worker.failures import Cancelled, Evicted, Paused
from services.training.worker.measures import Pace, Sums
from services.training.worker.reporting import Reporter
from services.training.worker.watch import Watch
from services.training.worker.weights import write_tensors, write_weights

_REPORTS = 250
"""Times that metrics are told in a long job, about; a shorter one tells them at each step."""
_ORDERS = (Order.RUN, Order.PAUSE, Order.CANCEL)
_EVICT = len(_ORDERS)


class Steps(TrainerCallback):
    """Called by the trainer after each step.

    Args:
        plan: the job's.
        schedule: its steps.
        checkpoints: where they are written.
        reporter: told of everything.
        watch: what the service wants.
        sums: measured since metrics were last told.
        saved_as: number type of whole weights.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        checkpoints: Checkpoints,
        reporter: Reporter,
        watch: Watch,
        sums: Sums,
        saved_as: torch.dtype,
    ) -> None:
        self.trainer: Any = None
        """Set when there is one."""
        self.evaluate: Callable[[], dict[str, float]] | None = None
        """Measures the validation file, where there is one."""
        self._plan = plan
        self._schedule = schedule
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._watch = watch
        self._sums = sums
        self._saved_as = saved_as
        self._pace = Pace()
        self._metrics: dict[str, float] = {}
        self._every = max(1, math.ceil(schedule.step_count / _REPORTS))

    def begin(self, step: int, metrics: dict[str, float]) -> None:
        """Takes in where the training goes on."""
        self._metrics = dict(metrics)
        self._reporter.step = step
        self._reporter.epoch = self._schedule.epochs_until(step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tells, measures and saves, then does what the service wants.

        Raises:
            Paused: by the service; there is a checkpoint.
            Cancelled: by the service.
            Evicted: by the machine; there is a checkpoint.
        """
        step = int(state.global_step)
        schedule = self._schedule
        last = step == schedule.step_count
        epoch_ends = step % schedule.steps_per_epoch == 0
        self._pace.step(schedule.tokens_until(step) - schedule.tokens_until(step - 1))
        left = schedule.tokens_until(schedule.step_count) - schedule.tokens_until(step)
        self._reporter.progress(
            step, schedule.epochs_until(step), self._pace.remaining_s(left), last=last
        )
        if last or epoch_ends or step % self._every == 0:
            self._measure(step, validate=epoch_ends)
        interval = self._plan.checkpoint_interval_steps
        if epoch_ends if interval is None else step % interval == 0:
            self.save(step)
        self._obey(step)

    def save(self, step: int) -> None:
        """Writes a checkpoint, and drops the oldest where there are too many."""
        trainer = self.trainer
        if not trainer.is_world_process_zero():
            return
        state = State(
            step=step,
            epoch=self._schedule.epochs_until(step),
            sums=self._sums.state(),
            metrics=self._metrics,
            learning_rates=[group["lr"] for group in trainer.optimizer.param_groups],
        )

        def write(path: Any) -> None:
            write_weights(trainer.model, path, self._plan, self._saved_as)
            write_tensors(trainer.model, trainer.optimizer, path)
            trainer.state.save_to_json(str(path / "trainer_state.json"))
            write_state(path, state)

        size = self._checkpoints.write(step, write)
        self._reporter.saved(step, state.epoch, state.metrics, size)
        drop_old(self._checkpoints, self._reporter, self._plan.max_checkpoints)

    def _measure(self, step: int, *, validate: bool) -> None:
        means = {f"train_{name}": mean for name, mean in self._sums.take().items()}
        self._metrics = {**means, "learning_rate": self.trainer.learning_rate_in(step - 1)}
        if validate and self.evaluate is not None:
            valid = self.evaluate()
            self._metrics.update({f"valid_{name}": mean for name, mean in valid.items()})
        self._reporter.metrics(self._metrics)

    def _obey(self, step: int) -> None:
        wish = self._wish()
        if wish == _EVICT or _ORDERS[wish] is Order.PAUSE:
            if step not in self._checkpoints.steps():
                self.save(step)
            raise Evicted if wish == _EVICT else Paused
        if _ORDERS[wish] is Order.CANCEL:
            raise Cancelled

    def _wish(self) -> int:
        """What is wanted, the same on all ranks: as the first one sees it."""
        wish = _EVICT if self._watch.evicted else _ORDERS.index(self._watch.order())
        args = self.trainer.args
        if args.world_size > 1:
            told = torch.tensor(wish, device=args.device)
            torch.distributed.broadcast(told, src=0)
            wish = int(told)
        return wish


def drop_old(checkpoints: Checkpoints, reporter: Reporter, most: int) -> None:
    """Removes the oldest checkpoints, where there are more than so many."""
    steps = checkpoints.steps()
    for step in steps[: max(0, len(steps) - max(1, most))]:
        reporter.dropped(step)
        checkpoints.drop(step)

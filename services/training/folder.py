"""The folder of a job: all that passes between the service and a worker.

    jobs/<job ID>/
      plan.json          what to do; written once, before the first worker
      order.json         what the worker is to do now; written by the service, read at every step
      train.jsonl        examples, and valid.jsonl where there is something to validate with
      worker.lock        locked by the worker that lives; holds its process ID
      heartbeat          touched by the living worker every few seconds
      journal.jsonl      what workers did: one record a line, only ever appended to
      worker.log         what workers wrote to stdout and stderr
      checkpoints/step-<n>/   snapshots; whole where they hold the file COMPLETE
      result/            what is served; there as a whole or not at all
    models/<quoted model ID>  links to results and checkpoints

Any of the processes may die at any moment. Files that are written once are renamed into place; the
journal may end in a torn line, which readers leave and the next worker cuts off.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

COMPLETE: Final = "COMPLETE"
"""File that a checkpoint has when all of it is written and synced."""


class Order(StrEnum):
    """What a worker is to do."""

    RUN = "run"
    PAUSE = "pause"
    """Write a checkpoint, then end with the outcome `paused`."""
    CANCEL = "cancel"
    """End at once with the outcome `cancelled`."""


class LoraPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Small matrices beside the weights. None and empty are chosen by the worker."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a worker is to do: everything it has to know. None is chosen by the worker."""

    job_id: str
    model_id: str
    base_id: str = ""
    """ID of the model whose weights are in `base_folder`."""
    base_folder: str
    adapter_folder: str = ""
    """Adapter to go on from, where the base is one."""
    kind: str
    """`chat` or `completion`."""
    examples: str
    """Format of the files: a value of `services.training.examples.Format`."""
    has_validation: bool = False
    method: str = "supervised"
    """Or `dpo`."""
    target: str = "assistant"
    """Or `all`: which tokens are learnt in the method `supervised`."""
    beta: float = 0.1
    lora: LoraPlan | None = None
    """None trains all weights."""
    epoch_count: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    learning_rate: float | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_sequence_tokens: int | None = None
    context_length: int = 0
    seed: int
    checkpoint_interval_steps: int | None = None
    """None: a checkpoint at the end of each epoch."""
    max_checkpoints: int = 10
    """Older ones are removed; the journal tells."""
    device: str = "auto"
    threads: int = 0
    """CPU threads; 0 leaves it to torch."""
    nice: int = 0
    """Added to the process's niceness."""
    memory_bytes: int = 0
    """Most memory that the worker may plan with; 0: nine tenths of what is free."""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """A worker has the lock."""

    time: float
    attempt: int
    pid: int


class Chosen(msgspec.Struct, frozen=True, tag="chosen"):
    """Everything is chosen and the number of steps is known."""

    time: float
    step_count: int
    epoch_count: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_sequence_tokens: int
    words: str = ""
    """For people: device, parameters trained, micro-batches, examples that are cut."""


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A step is done. Not an event of its own."""

    time: float
    step: int
    epoch: float
    remaining_s: float | None = None
    """Time that the rest will take, from the rate so far; None before that can be told."""


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """The training was measured. The same step may come again after a crash, with the same."""

    time: float
    step: int
    epoch: float
    metrics: dict[str, float]


class Saved(msgspec.Struct, frozen=True, tag="saved"):
    """A checkpoint is complete."""

    time: float
    step: int
    epoch: float
    metrics: dict[str, float]
    size_bytes: int


class Dropped(msgspec.Struct, frozen=True, tag="dropped"):
    """An old checkpoint was removed."""

    time: float
    step: int


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something people want to know."""

    time: float
    level: str
    message: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The worker is about to end by itself. With `succeeded`, the result is there."""

    time: float
    attempt: int
    outcome: str
    """`succeeded`, `failed`, `paused` or `cancelled`."""
    step: int = 0
    trained_token_count: int = 0
    code: str = ""
    """Of a failure; see `JobError`."""
    message: str = ""
    param: str = ""
    transient: bool = False
    """Whether another attempt may do better."""


Record = Started | Chosen | Progress | Metrics | Saved | Dropped | Note | Ended


class JobFolder:
    """The paths of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = path / "plan.json"
        self.order = path / "order.json"
        self.training = path / "train.jsonl"
        self.validation = path / "valid.jsonl"
        self.lock = path / "worker.lock"
        self.heartbeat = path / "heartbeat"
        self.journal = path / "journal.jsonl"
        self.log = path / "worker.log"
        self.checkpoints = path / "checkpoints"
        self.result = path / "result"

    def checkpoint(self, step: int) -> Path:
        """The folder of a checkpoint."""
        return self.checkpoints / f"step-{step}"

    def clear_examples(self) -> None:
        """Removes the copies of the examples, and what was left of making them."""
        for file in (self.training, self.validation):
            file.unlink(missing_ok=True)
            for left in self.path.glob(f"{file.name}.*"):
                left.unlink(missing_ok=True)


def job_folder(root: Path, job_id: str) -> JobFolder:
    """The folder of a job below the root of training."""
    return JobFolder(root / "jobs" / job_id)


def model_link(root: Path, model_id: str) -> Path:
    """Where the link to a result or a checkpoint is."""
    return root / "models" / quote(model_id, safe="")

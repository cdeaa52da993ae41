"""The job that `penstock train start` asks for, from the words of its command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.inference.v1 import priority_pb2
from penstock.training.v1 import job_pb2

from services.cli.failures import UsageFailure

PRIORITIES: Mapping[str, priority_pb2.Priority.ValueType] = {
    "low": priority_pb2.PRIORITY_LOW,
    "normal": priority_pb2.PRIORITY_NORMAL,
    "high": priority_pb2.PRIORITY_HIGH,
}
METHODS = ("sft", "dpo")
TUNINGS = ("lora", "full")

_FILE_ID = "file-"
_FILES = "files/"
_DATASET = "dataset:"


@dataclass(frozen=True)
class Examples:
    """What is trained on, or measured on: one of the three is set."""

    path: Path | None = None
    """A file here, which has to be uploaded."""
    file: str = ""
    """`files/{file}`"""
    dataset: str = ""
    """Name of a dataset that the service's configuration knows."""

    @property
    def text(self) -> str:
        """What people know it by."""
        return str(self.path) if self.path else self.dataset or self.file.removeprefix(_FILES)


@dataclass(frozen=True)
class Wishes:
    """What the command line says; None where it says nothing."""

    base: str
    suffix: str
    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    method: str
    beta: float | None
    tuning: str
    rank: int | None
    seed: int | None
    priority: str | None
    checkpoint_steps: int | None


def examples_of(word: str) -> Examples:
    """Returns what a word names: a file here, the ID of an uploaded one, or a dataset.

    Raises UsageFailure where it is none of them.
    """
    if word.startswith(_DATASET) and word != _DATASET:
        return Examples(dataset=word.removeprefix(_DATASET))
    path = Path(word)
    try:
        if path.is_dir():
            raise UsageFailure(f"{word} is a folder.", hint="Name a file of examples, JSON Lines.")
        if path.exists():
            return Examples(path=path)
    except (OSError, ValueError) as error:  # what no path can be
        raise UsageFailure(f"{word[:100]!r} is no file.") from error
    if word.removeprefix(_FILES).startswith(_FILE_ID):
        return Examples(file=_FILES + word.removeprefix(_FILES))
    raise UsageFailure(
        f"There is no file {word}.",
        hint="Name a file here, the ID of an uploaded one (`penstock files list`), or "
        f"{_DATASET}NAME for a dataset of the service.",
    )


def to_job(wishes: Wishes) -> job_pb2.Job:
    """Returns the job, without its examples. Raises UsageFailure for what makes no sense."""
    if wishes.rank is not None and wishes.tuning != "lora":
        raise UsageFailure("--rank is for --tuning lora: full tuning trains all weights.")
    if wishes.beta is not None and wishes.method != "dpo":
        raise UsageFailure("--beta is for --method dpo.")
    job = job_pb2.Job(
        base_model=wishes.base,
        suffix=wishes.suffix,
        seed=wishes.seed,
        checkpoint_interval_steps=wishes.checkpoint_steps,
        hyperparameters=job_pb2.Hyperparameters(
            epoch_count=wishes.epochs,
            batch_size=wishes.batch_size,
            learning_rate=wishes.learning_rate,
        ),
    )
    if wishes.priority is not None:
        job.priority = PRIORITIES[wishes.priority]
    if wishes.method == "dpo":
        job.dpo.CopyFrom(job_pb2.DpoMethod(beta=wishes.beta))
    else:
        job.supervised.SetInParent()
    if wishes.tuning == "full":
        job.full.SetInParent()
    else:
        job.lora.CopyFrom(job_pb2.LoraTuning(rank=wishes.rank))
    return job


def set_training(job: job_pb2.Job, examples: Examples) -> None:
    """Says what is trained on; it must be with the service."""
    if examples.dataset:
        job.training_dataset = examples.dataset
    else:
        job.training_file = examples.file


def set_validation(job: job_pb2.Job, examples: Examples) -> None:
    """Says what is measured on; it must be with the service."""
    if examples.dataset:
        job.validation_dataset = examples.dataset
    else:
        job.validation_file = examples.file

"""Folders of jobs, and workers as processes on them."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from services.training.folder import Ended, JobFolder, LoraPlan, Plan, Record
from services.training.journal import read_records, write_plan

T = TypeVar("T")
LORA = LoraPlan(rank=4)
QUESTIONS = [
    {
        "messages": [
            {"role": "user", "content": f"what is {number}?"},
            {"role": "assistant", "content": f"It is {number}" + ", more" * (number % 5)},
        ]
    }
    for number in range(11)
]
PREFERENCES = [
    {
        "input": {"messages": [{"role": "user", "content": f"what is {number}?"}]},
        "preferred_output": [{"role": "assistant", "content": f"It is {number}"}],
        "non_preferred_output": [{"role": "assistant", "content": "no" + " idea" * (number % 4)}],
    }
    for number in range(9)
]
COMPLETIONS = [{"prompt": f"The fox {number}", "completion": " jumps"} for number in range(7)]


class Worker(Protocol):
    """A process that is a worker."""

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        ...

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        ...


def write_job(
    path: Path,
    base: Path,
    lines: Sequence[Mapping[str, Any]] = QUESTIONS,
    *,
    validation: Sequence[Mapping[str, Any]] = (),
    **changes: Any,
) -> JobFolder:
    """Writes the folder of a job: two epochs in batches of three, on one thread."""
    folder = JobFolder(path)
    path.mkdir(parents=True)
    write_lines(folder.training, lines)
    if validation:
        write_lines(folder.validation, validation)
    plan = Plan(
        job_id="ftjob-test",
        model_id="ft:tiny:local::test",
        base_id="tiny",
        base_folder=str(base),
        kind="chat",
        examples="chat",
        has_validation=bool(validation),
        seed=7,
        lora=LORA,
        epoch_count=2,
        batch_size=3,
        learning_rate=0.003,
        device="cpu",
        threads=1,
    )
    write_plan(folder.plan, msgspec.structs.replace(plan, **changes))
    return folder


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def start(folder: JobFolder, attempt: int = 1) -> "subprocess.Popen[bytes]":
    """Starts a worker as the service does."""
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "services.training.worker", str(folder.path), str(attempt)],
            stdout=log,
            stderr=log,
        )


def finish(
    folder: JobFolder, attempt: int = 1, start: Callable[[JobFolder, int], Worker] = start
) -> Ended:
    """Runs a worker to its end, and returns how it says it ended."""
    process = start(folder, attempt)
    try:
        assert process.wait() == 0, folder.log.read_text()[-4000:]
    finally:
        kill(process)
    last = records(folder)[-1]
    assert isinstance(last, Ended), folder.log.read_text()[-4000:]
    assert last.attempt == attempt
    return last


def kill(process: Worker) -> None:
    """Ends a worker as kill -9 does, where it hasn't ended by itself."""
    process.kill()
    process.wait()


def records(folder: JobFolder) -> list[Record]:
    """The whole journal."""
    found: list[Record] = []
    offset = 0
    while True:
        more, end = read_records(folder.journal, offset)
        if end == offset:
            return found
        found += more
        offset = end


def of(folder: JobFolder, kind: type[T]) -> list[T]:
    return [record for record in records(folder) if isinstance(record, kind)]


def result_bytes(folder: JobFolder) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.result.iterdir())}

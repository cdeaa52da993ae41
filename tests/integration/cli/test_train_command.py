"""`penstock train` against TrainingService itself; tests do to its jobs what a supervisor does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli.main import main
from services.cli.train import INTERRUPTED
from tests.integration.cli.conftest import ENVIRONMENT
from tests.integration.cli.terminal import Terminal

LINES = b'{"messages":[]}\n' * 10
GONE = "ftjob-" + "a" * 24
ENDED = {"start_time": "2026-11-22T10:00:00+00:00", "end_time": "2026-11-22T10:01:05+00:00"}


@dataclass
class Train:
    """A way to run the command, and to say what happens to jobs."""

    address: str
    process: subprocess.Popen[str]

    def words(self, *words: str, group: str = "train", key: str = "trainer-token") -> list[str]:
        return [group, *words, "--training-address", self.address, "--api-key", key]

    def __call__(self, *words: str, status: int = 0, **more: str) -> Result:
        result = CliRunner().invoke(main, self.words(*words, **more), env=ENVIRONMENT)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    def json(self, *words: str, **more: str) -> Any:
        return json.loads(self(*words, "--json", **more).stdout)

    def start(self, *words: str) -> str:
        """Starts a job, unless told otherwise on a dataset; returns its ID."""
        made = self.json("start", "dataset:hours", "--base", "base", *words)
        return made["name"].removeprefix("trainingJobs/")

    def happens(self, job: str, **wish: Any) -> None:
        """Does to a job what the supervisor would."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"job": job, **wish}) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "\n", "see its standard error"

    def runs(self, job: str, **facts: Any) -> None:
        self.happens(job, state="queued")
        self.happens(job, state="running", facts={"step_count": 4} | facts)

    def files(self) -> list[Any]:
        return self.json("list", group="files")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    folder = tmp_path_factory.mktemp("training")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.cli.train_platform", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        yield Train(json.loads(process.stdout.readline())["address"], process)
        process.kill()


@pytest.fixture
def train(service: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Train]:
    """The command, in a folder with one file of examples; jobs and files of a test don't stay."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.jsonl").write_bytes(LINES)
    yield service
    for job in service.json("list", "--limit", "1000"):
        if job["state"] not in ("STATE_SUCCEEDED", "STATE_FAILED", "STATE_CANCELLED"):
            id_ = job["name"].removeprefix("trainingJobs/")
            service("cancel", id_)
            if job["state"] == "STATE_RUNNING":
                service.happens(id_, state="cancelled")
    for file in service.files():
        service("remove", file["name"], "--yes", group="files")


def test_a_file_here_is_uploaded_first(train: Train) -> None:
    result = train("start", "lines.jsonl", "--base", "default", "--validation", "lines.jsonl")
    job_id, _, said = result.stdout.strip().partition("  ")
    assert job_id.startswith("ftjob-")
    assert said == "base, lines.jsonl"
    assert f"`penstock train watch {job_id}` follows it." in result.stderr
    job = train.json("status", job_id)
    assert job["base_model"] == "base"
    names = {file["name"]: file for file in train.files()}
    assert {job["training_file"], job["validation_file"]} == set(names)
    assert {file["purpose"] for file in names.values()} == {"FILE_PURPOSE_FINE_TUNE"}
    assert {file["size_bytes"] for file in names.values()} == {str(len(LINES))}


def test_an_uploaded_file_by_its_id(train: Train) -> None:
    file = train.json("upload", "lines.jsonl", group="files")["name"]
    for word in (file, file.removeprefix("files/")):
        job = train.json("start", word, "--base", "base")
        assert job["training_file"] == file
    assert len(train.files()) == 1


def test_every_option_travels(train: Train) -> None:
    words = "--suffix hours --epochs 5 --batch-size 4 --learning-rate 0.01 --method dpo --beta 0.2"
    more = "--tuning lora --rank 8 --seed 7 --priority low --checkpoint-steps 3"
    job = train.json("status", train.start(*words.split(), *more.split()))
    assert (
        job
        | {
            "training_dataset": "hours",
            "suffix": "hours",
            "seed": 7,
            "priority": "PRIORITY_LOW",
            "checkpoint_interval_steps": 3,
            "hyperparameters": {"epoch_count": 5, "batch_size": 4, "learning_rate": 0.01},
            "dpo": {"beta": 0.2},
            "lora": {"rank": 8},
        }
        == job
    )
    assert "full" in train.json("status", train.start("--tuning", "full"))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("start", "lines.jsonl", "--base", "nobody"), 1, "`penstock models list`"),
        (("start", "lines.jsonl", "--base", "vectors"), 1, "chat or completion"),
        (("start", "lines.jsonl", "--base", "base", "--validation", "file-none"), 1, "no file"),
        (("start", "lines.jsonl", "--base", "base", "--suffix", "x" * 65), 1, "job.suffix"),
        (("start", "lines.jsonl", "--base", "base", "--priority", "high"), 1, "admin"),
        (("start", "none.jsonl", "--base", "base"), 2, "dataset:NAME"),
        (("start", "lines.jsonl"), 2, "--base"),
        (("start", "lines.jsonl", "--base", "base", "--validation", "."), 2, "is a folder"),
        (("start", "lines.jsonl", "--base", "base", "--epochs", "51"), 2, "1<=x<=50"),
        (("start", "lines.jsonl", "--base", "base", "--beta", "1"), 2, "--method dpo"),
        (("start", "dataset:none", "--base", "base"), 1, "no dataset"),
        (("start", "file-none", "--base", "base"), 1, "no file"),
        (("status", GONE), 1, "`penstock train list`"),
        (("status", "what/ever"), 1, ""),
        (("cancel", GONE), 1, "`penstock train list`"),
        (("watch", GONE), 1, "`penstock train list`"),
        (("logs", "trainingJobs/" + GONE), 1, "`penstock train list`"),
        (("checkpoints", GONE), 1, "`penstock train list`"),
        (("list", "--state", "odd"), 2, "validating"),
    ],
)
def test_errors(train: Train, words: tuple[str, ...], status: int, said: str) -> None:
    result = train(*words, status=status)
    assert said in result.stderr, result.stderr
    assert not result.stdout
    assert train.files() == [], "what was uploaded for nothing does not stay"


def test_lists(train: Train) -> None:
    first, second = train.start(), train.start()
    train.runs(second, step=1, metrics={"train_loss": 2.5})
    rows = [line.split() for line in train("list", "-s", "running").stdout.splitlines()]
    assert rows[0] == ["job", "state", "base", "done", "loss", "created"]
    assert rows[1][:5] == [second, "running", "base", "25%", "2.500"]
    listed = [job["name"] for job in train.json("list", "-s", "validating", "-s", "running")]
    assert listed == [f"trainingJobs/{id_}" for id_ in (second, first)]
    result = train("list", "--limit", "1")
    assert len(result.stdout.splitlines()) == 2
    assert "--limit 10 shows them" in result.stderr


def test_nothing_is_there(train: Train) -> None:
    other = train("list", key="other-trainer-token")
    assert "No jobs." in other.stderr
    assert train.json("list", key="other-trainer-token") == []


def test_asking_for_things(train: Train) -> None:
    job = train.start()
    assert train("pause", job).stdout == f"{job} is paused.\n"
    assert train("resume", job).stdout == f"{job} is validating files.\n"
    train.runs(job)
    assert train("pause", job).stdout == f"{job} is being paused.\n"
    assert train("resume", job).stdout == f"{job} is running.\n"
    assert train.json("cancel", job)["requested_state"] == "STATE_CANCELLED"
    assert "running, being cancelled" in train("status", job).stdout
    train.happens(job, state="cancelled", facts={"requested_state": None})
    assert train("cancel", job).stdout == f"{job} is cancelled.\n"
    assert "cancelled" in train("resume", job, status=1).stderr


def test_logs_and_checkpoints(train: Train) -> None:
    job = train.start()
    assert "No checkpoints." in train("checkpoints", job).stderr
    train.runs(job)
    train.happens(job, metrics={"step": 1, "epoch": 0.5, "metrics": {"train_loss": 2.5}})
    train.happens(job, checkpoint=1)
    said = [line.split("  ", 1)[1] for line in train("logs", job).stdout.splitlines()]
    assert said[-4:] == [
        *("Now queued.", "Now running.", "step 1, epoch 0.50: train_loss 2.5", "Checkpoint at 1.")
    ]
    last = train("logs", job, "--limit", "2")
    assert [line.split("  ", 1)[1] for line in last.stdout.splitlines()] == said[-2:]
    assert "--limit 20 shows them" in last.stderr
    assert len(train.json("logs", job)) == len(said)
    (row,) = train("checkpoints", job).stdout.splitlines()[1:]
    assert row.split()[0] == "1"
    assert row.endswith(":ckpt-step-1")
    assert train.json("checkpoints", job)[0]["size_bytes"] == "4096"


def test_a_status_that_failed(train: Train) -> None:
    job = train.start()
    error = {
        "code": "invalid_training_file", "message": "This is not JSON.",
        "param": "training_file", "line": 7, "column": 3, "bad_line_count": 2,
    }  # fmt: skip
    train.happens(job, state="failed", facts={"error": error})
    shown = " ".join(train("status", job).stdout.split())
    assert "This is not JSON. The first of 2 bad lines: line 7, column 3." in shown
    watched = train("watch", job, status=1)
    assert "The first of 2 bad lines: line 7, column 3." in watched.stderr
    assert "Now failed." in watched.stdout


def test_a_job_is_followed_in_a_terminal_from_its_start(train: Train, tmp_path: Path) -> None:
    words = train.words("start", "lines.jsonl", "--base", "base", "--watch")
    shown = Terminal(words, cwd=tmp_path)
    shown.see("base, lines.jsonl")
    shown.see("validating files")
    (job,) = (item["name"].partition("/")[2] for item in train.json("list", "-s", "validating"))
    train.runs(job)
    shown.see("Now running.")
    train.happens(job, metrics={"step": 2, "epoch": 1.0, "metrics": {"train_loss": 2.5}})
    shown.see("2/4 50%")
    shown.see("loss 2.500")
    assert "step 2, epoch" not in shown.text
    train.happens(job, checkpoint=2)
    shown.see("Checkpoint at 2.")
    facts = {"step": 4, "trained_token_count": 77, **ENDED}
    train.happens(job, state="succeeded", facts=facts)
    shown.see("4 steps, 77 tokens, 1 min 5 s")
    shown.see("Try it: penstock chat --model ft:base:local:")
    assert shown.end() == 0


def test_a_bad_line_of_a_file_here_is_named_with_its_place(train: Train, tmp_path: Path) -> None:
    words = train.words("start", "lines.jsonl", "--base", "base", "--watch")
    shown = Terminal(words, cwd=tmp_path)
    shown.see("validating files")
    (job,) = (item["name"].partition("/")[2] for item in train.json("list", "-s", "validating"))
    error = {
        "code": "invalid_training_file", "message": "This is not JSON.",
        "param": "training_file", "line": 7, "column": 3, "bad_line_count": 1,
    }  # fmt: skip
    train.happens(job, state="failed", facts={"error": error})
    shown.see("This is not JSON.")
    shown.see("The bad line: lines.jsonl:7:3.")
    assert shown.end() == 1


def test_ctrl_c_leaves_the_job_alone(train: Train, tmp_path: Path) -> None:
    shown = Terminal(train.words("start", "dataset:hours", "--base", "base", "-w"), cwd=tmp_path)
    shown.see("validating files")
    shown.type("\x03")
    shown.see("Stopped watching. The job goes on:")
    shown.see("`penstock train watch ftjob-")
    assert shown.end() == INTERRUPTED
    (job,) = train.json("list", "-s", "validating")
    assert "requested_state" not in job


def test_roles_and_keys(train: Train) -> None:
    job = train.start()
    assert "'trainer'" in train("list", key="my-token", status=1).stderr
    assert "--api-key" in train("list", key="wrong", status=1).stderr
    assert "There is no" in train("status", job, key="other-trainer-token", status=1).stderr


def test_no_service(train: Train) -> None:
    error = Train("127.0.0.1:1", train.process)("list", status=1).stderr
    assert "Can't reach the training service at 127.0.0.1:1." in error

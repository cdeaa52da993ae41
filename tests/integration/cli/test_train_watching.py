"""`penstock train watch` before a service whose streams break, and in a terminal."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from penstock.training.v1 import job_pb2, training_service_pb2, training_service_pb2_grpc

from services.cli.main import main
from services.cli.train import INTERRUPTED
from tests.integration.cli.conftest import ENVIRONMENT
from tests.integration.cli.terminal import Terminal, assert_soon

State = job_pb2.Job
NAME = "trainingJobs/ftjob-1"
RESULT = "ft:base:local:hours:abcdefgh"


def job(state: State.State.ValueType, **facts: Any) -> job_pb2.Job:
    made = job_pb2.Job(name=NAME, base_model="base", state=state, step_count=4, **facts)
    made.start_time.FromSeconds(1_700_000_000)
    if state in (State.STATE_SUCCEEDED, State.STATE_FAILED):
        made.end_time.FromSeconds(1_700_000_070)
    return made


SUCCEEDED = job(
    State.STATE_SUCCEEDED, step=4, trained_token_count=1234, fine_tuned_model=RESULT, progress=1
)
FAILED = job(
    State.STATE_FAILED,
    error=job_pb2.JobError(
        code="invalid_training_file",
        message="This is not JSON.",
        param="training_file",
        line=7,
        column=3,
        bad_line_count=2,
    ),
)


def history() -> list[job_pb2.JobEvent]:
    events = [
        job_pb2.JobEvent(message="The job was created."),
        job_pb2.JobEvent(
            message="Training begins.", state_change=job_pb2.StateChange(to=State.STATE_RUNNING)
        ),
    ]
    for step in range(1, 5):
        report = job_pb2.MetricsReport(step=step, epoch=step / 2, metrics={"train_loss": 5 - step})
        events.append(job_pb2.JobEvent(metrics=report))
    events.append(job_pb2.JobEvent(message="A worker died.", level=job_pb2.JobEvent.LEVEL_WARN))
    for number, event in enumerate(events):
        event.name = f"{NAME}/events/ftevent-{number}"
        event.create_time.FromSeconds(1_700_000_000 + number)
    return events


Way = Callable[[grpc.ServicerContext], None]
"""How a stream ends that was cut short."""


def aborts(code: grpc.StatusCode, reason: str = "") -> Way:
    def end(context: grpc.ServicerContext) -> None:
        if reason:
            info = any_pb2.Any()
            info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="penstock"))
            status = status_pb2.Status(code=code.value[0], message="why", details=[info])
            context.set_trailing_metadata(
                (("grpc-status-details-bin", status.SerializeToString()),)
            )
        context.abort(code, "why")

    return end


def ends(context: grpc.ServicerContext) -> None:
    """As if nothing were missing."""


AWAY = aborts(grpc.StatusCode.UNAVAILABLE)


class Breaking(training_service_pb2_grpc.TrainingServiceServicer):
    """Has one job; cuts streams after so many events, as it is told."""

    def __init__(self, ended: job_pb2.Job, *cuts: tuple[int, Way], says_job: bool = True) -> None:
        self.asked: list[str] = []
        """What each call resumed after."""
        self.left = threading.Event()
        """Set when a caller leaves before the end."""
        self.goes_on = threading.Event()
        """The last event is held back until it is set."""
        self.goes_on.set()
        self._ended = ended
        self._cuts = list(cuts)
        self._says_job = says_job

    def WatchJob(self, request: Any, context: Any) -> Iterator[training_service_pb2.WatchJobEvent]:
        assert request.name == NAME
        assert request.from_start is not bool(request.resume_after)
        self.asked.append(request.resume_after.rpartition("/")[2])
        context.add_callback(self.left.set)
        word = training_service_pb2.WatchJobEvent
        count, end = self._cuts.pop(0) if self._cuts else (-1, ends)
        if count != 0 or self._says_job:
            yield word(job=job(State.STATE_RUNNING, step=0))
        names = [event.name for event in history()]
        first = names.index(request.resume_after) + 1 if request.resume_after else 0
        for number, event in enumerate(history()[first:]):
            if number == count:
                end(context)
                return
            if event.name == names[-1]:
                while not self.goes_on.wait(0.05) and context.is_active():
                    pass
            yield word(happened=event)
        beat = word()
        beat.heartbeat.FromSeconds(15)
        yield beat
        yield word(finish=training_service_pb2.JobFinish(job=self._ended))


@dataclass
class Watch:
    """A way to run the command."""

    address: str

    @property
    def words(self) -> list[str]:
        return ["train", "watch", "ftjob-1", "--training-address", self.address, "--api-key", "k"]

    def __call__(self, *words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [*self.words, *words], env=ENVIRONMENT)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result


@contextmanager
def serving(servicer: Breaking) -> Iterator[Watch]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield Watch(f"127.0.0.1:{port}")
        servicer.goes_on.set()
        server.stop(None).wait()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is tested is not the pause."""
    monkeypatch.setattr("services.cli.train_follow.PAUSES_S", (0.0,) * 3)
    monkeypatch.chdir(tmp_path)


LINES = [
    "2023-11-14 22:13:20  The job was created.",
    "2023-11-14 22:13:21  Training begins.",
    "2023-11-14 22:13:22  step 1, epoch 0.50: train_loss 4",
    "2023-11-14 22:13:23  step 2, epoch 1.00: train_loss 3",
    "2023-11-14 22:13:24  step 3, epoch 1.50: train_loss 2",
    "2023-11-14 22:13:25  step 4, epoch 2.00: train_loss 1",
    "2023-11-14 22:13:26  warn: A worker died.",
]
END = [
    f"{RESULT}  4 steps, 1,234 tokens, 1 min 10 s",
    f"Try it: penstock chat --model {RESULT}",
]


@pytest.mark.parametrize(
    ("cuts", "asked"),
    [
        ((), [""]),
        (((3, AWAY),), ["", "ftevent-2"]),
        (((2, ends), (1, ends)), ["", "ftevent-1", "ftevent-2"]),
        (((0, AWAY), (0, AWAY), (0, AWAY)), ["", "", "", ""]),
        (
            ((1, AWAY), (0, AWAY), (0, AWAY), (1, AWAY), (0, ends), (0, ends)),
            ["", *("ftevent-0",) * 3, *("ftevent-1",) * 3],
        ),
        (((5, aborts(grpc.StatusCode.INTERNAL)),), ["", "ftevent-4"]),
        (((5, aborts(grpc.StatusCode.UNKNOWN)),), ["", "ftevent-4"]),
        (((5, aborts(grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")),), ["", "ftevent-4"]),
    ],
)
def test_every_event_comes_once(cuts: Sequence[tuple[int, Way]], asked: list[str]) -> None:
    service = Breaking(SUCCEEDED, *cuts)
    with serving(service) as watch:
        result = watch()
    assert result.stdout.splitlines() == LINES + END
    assert service.asked == asked
    assert ("The connection broke" in result.stderr) is bool(cuts)


def test_json_lines() -> None:
    with serving(Breaking(SUCCEEDED, (2, AWAY))) as watch:
        result = watch("--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [next(iter(event)) for event in events] == [
        *("job", "happened", "happened"),
        *("job", *("happened",) * 5, "finish"),
    ]
    assert events[-1]["finish"]["job"]["fine_tuned_model"] == RESULT
    assert result.stderr == ""


def test_a_service_that_stays_away() -> None:
    service = Breaking(SUCCEEDED, (1, AWAY), *[(0, AWAY)] * 9)
    with serving(service) as watch:
        result = watch(status=1)
    assert len(service.asked) == 4
    assert "Can't reach the training service" in result.stderr
    assert "The job goes on:\n`penstock train watch ftjob-1` follows it again." in result.stderr


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (AWAY, "penstock serve"),
        (aborts(grpc.StatusCode.INTERNAL), "why"),
        (aborts(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"), "penstock train list"),
        (aborts(grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS"), "--api-key"),
    ],
)
def test_what_was_never_there_is_not_waited_for(way: Way, said: str) -> None:
    service = Breaking(SUCCEEDED, (0, way), says_job=False)
    with serving(service) as watch:
        result = watch(status=1)
    assert said in result.stderr
    assert service.asked == [""]


@pytest.mark.parametrize(
    "way",
    [
        aborts(grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        aborts(grpc.StatusCode.INTERNAL, "INTERNAL"),
        aborts(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    ],
)
def test_what_a_repeat_would_not_mend(way: Way) -> None:
    service = Breaking(SUCCEEDED, (2, way))
    with serving(service) as watch:
        watch(status=1)
    assert service.asked == [""]


def test_a_job_that_failed() -> None:
    with serving(Breaking(FAILED)) as watch:
        result = watch(status=1)
        said = json.loads(watch("--json", status=1).stderr)["error"]
    assert result.stderr.splitlines() == [
        "Error: ftjob-1 failed: This is not JSON.",
        "  reason invalid_training_file",
        "  field  training_file",
        "The first of 2 bad lines: line 7, column 3.",
    ]
    assert said["reason"] == "invalid_training_file"
    assert "chat" not in result.stdout


def test_a_job_that_was_cancelled() -> None:
    with serving(Breaking(job(State.STATE_CANCELLED))) as watch:
        assert watch(status=1).stderr == "Error: ftjob-1 was cancelled.\n"


def test_a_terminal_shows_how_it_goes() -> None:
    service = Breaking(SUCCEEDED)
    service.goes_on.clear()
    with serving(service) as watch:
        shown = Terminal(watch.words)
        shown.see("22:13:21  Training begins.")
        shown.see("running")
        shown.see("4/4 100%")
        shown.see("loss 1.000 █▆▃▁")
        shown.see("epoch 2.00")
        shown.see("1 steps/s")
        shown.see("0 s left")
        service.goes_on.set()
        shown.see("22:13:26  warn: A worker died.")
        shown.see(f"penstock chat --model {RESULT}")
        assert shown.end() == 0
    assert b"step 1, epoch" not in shown.raw


def test_ctrl_c_ends_the_watching_only() -> None:
    service = Breaking(SUCCEEDED)
    service.goes_on.clear()
    with serving(service) as watch:
        shown = Terminal(watch.words)
        shown.see("4/4 100%")
        shown.type("\x03")
        shown.see("Stopped watching. The job goes on:\n`penstock train watch ftjob-1`")
        assert shown.end() == INTERRUPTED
        assert_soon(service.left.is_set)
    assert service.asked == [""]


def test_a_terminal_says_that_nothing_is_heard() -> None:
    service = Breaking(SUCCEEDED, (3, AWAY), (0, AWAY))
    service.goes_on.clear()
    with serving(service) as watch:
        shown = Terminal(watch.words)
        shown.see("The connection broke; tries again.")
        shown.see("4/4 100%")
        service.goes_on.set()
        shown.see(RESULT)
        assert shown.end() == 0
    assert shown.raw.count(b"Training begins.") == 1

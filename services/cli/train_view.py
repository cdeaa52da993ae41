"""How a followed training looks: a live bar, plain lines, or JSON lines."""

from datetime import UTC, datetime

from penstock.training.v1 import training_service_pb2
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from services.cli.output import Output, to_dict
from services.cli.train_course import Course, State, sparkline, time_left, wish_word
from services.cli.train_follow import View
from services.cli.train_words import event_text, state_text

_BAR_WIDTH = 28
_SPARK_WIDTH = 20
_AWAY = "The connection broke; tries again."


def view_of(output: Output) -> View:
    """Returns how it is shown here."""
    if output.as_json:
        return JsonView(output)
    if output.out.is_terminal and output.err.is_interactive:
        return LiveView(output)
    return PlainView(output)


class JsonView:
    """Writes each event of the stream as one line of JSON."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: training_service_pb2.WatchJobEvent) -> None:
        """Writes it; that nothing happened is nothing to write."""
        if not event.HasField("heartbeat"):
            self._output.data(to_dict(event))

    def lost(self) -> None:
        """Has nothing to say: the next event follows the last."""

    def close(self) -> None:
        """Has nothing to take away."""


class PlainView:
    """Writes what happens line by line, for pipes and logs."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: training_service_pb2.WatchJobEvent) -> None:
        """Writes a line, where something happened."""
        if event.HasField("happened"):
            self._output.out.print(event_text(event.happened), soft_wrap=True)

    def lost(self) -> None:
        """Says so."""
        self._output.note(_AWAY, "yellow")

    def close(self) -> None:
        """Has nothing to take away."""


class LiveView:
    """Shows a bar that follows the job, and above it what happens."""

    def __init__(self, output: Output) -> None:
        self._course = Course()
        self._is_lost = False
        self._spinner = Spinner("dots")
        self._live = Live(
            self._drawn(),
            console=output.err,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def event(self, event: training_service_pb2.WatchJobEvent) -> None:
        """Moves the bar, and writes above it what happened."""
        self._is_lost = False
        match event.WhichOneof("event"):
            case "job":
                self._course.see_job(event.job)
            case "happened":
                self._course.see(event.happened)
                if not event.happened.HasField("metrics"):
                    line = event_text(event.happened, dated=False)
                    self._live.console.print(line, soft_wrap=True)
            case _:
                pass
        self._live.update(self._drawn())

    def lost(self) -> None:
        """Shows that nothing is heard for now."""
        self._is_lost = True
        self._live.update(self._drawn())

    def close(self) -> None:
        """Takes the bar away."""
        self._live.stop()

    def _drawn(self) -> Group:
        course, job = self._course, self._course.job
        state = state_text(job.state) if job.state else Text("asks")
        if wish := wish_word(job):
            state = Text(wish, style="yellow")
        total = job.step_count
        waits = job.state != State.STATE_RUNNING or not total
        bar = ProgressBar(
            total=total or 1, completed=course.step, width=_BAR_WIDTH, pulse=waits and not total
        )
        steps = f"{course.step:,}/{total:,} {course.step / total:.0%}" if total else ""
        line = Table.grid(padding=(0, 1))
        line.add_row(self._spinner, state, bar, Text(steps))
        facts = Text(_AWAY, style="yellow") if self._is_lost else Text(self._facts(), style="dim")
        facts.no_wrap, facts.overflow = True, "ellipsis"
        return Group(line, facts)

    def _facts(self) -> str:
        course = self._course
        facts: list[str] = []
        if course.loss is not None:
            line = sparkline(course.losses, _SPARK_WIDTH)
            facts.append(f"loss {course.loss:.3f} {line}".rstrip())
        if course.valid_loss is not None:
            facts.append(f"validation {course.valid_loss:.3f}")
        if course.job.step_count:
            epochs = course.job.effective_hyperparameters.epoch_count
            facts.append(f"epoch {course.epoch:.2f}" + (f"/{epochs}" if epochs else ""))
        if (rate := course.steps_per_s) is not None:
            facts.append(f"{rate:.2g} steps/s" if rate < 10 else f"{rate:.0f} steps/s")
        if (left := course.remaining_s(datetime.now(UTC))) is not None:
            facts.append(f"{time_left(left)} left")
        return "  " + " · ".join(facts)

"""How a run of `penstock image` looks: a progress bar and pictures, or JSON lines."""

from pathlib import Path
from typing import Protocol

from penstock.image.v1 import image_pb2, progress_pb2
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from services.cli.graphics import Graphics
from services.cli.output import Output, printable, to_dict

_State = progress_pb2.Progress


class View(Protocol):
    """Shows one run."""

    def event(self, event: progress_pb2.ImageEvent) -> None:
        """Takes note of an event of the stream that brings no image."""
        ...

    def saved(self, image: image_pb2.Image, path: Path) -> None:
        """An image was written."""
        ...

    def close(self) -> None:
        """Takes away what only showed the progress; more than once is fine."""
        ...


class JsonView:
    """Writes each event as one line of JSON, with a path in place of an image's bytes."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: progress_pb2.ImageEvent) -> None:
        """Writes it."""
        self._output.data(to_dict(event))

    def saved(self, image: image_pb2.Image, path: Path) -> None:
        """Writes the event that brought it."""
        fields = to_dict(image)
        fields.pop("data", None)
        self._output.data({"image": fields | {"path": str(path)}})

    def close(self) -> None:
        """Has nothing to take away."""


class TerminalView:
    """Shows a progress bar on stderr, files and pictures on stdout."""

    def __init__(self, output: Output, graphics: Graphics, *, names_files: bool) -> None:
        self._output = output
        self._graphics = graphics
        self._names_files = names_files
        self._model = ""
        self._total = 0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}", style="dim"),
            TimeElapsedColumn(),
            console=output.err,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not output.err.is_interactive,
        )
        self._task = self._bar.add_task("asks", total=None, left="")
        self._bar.start()

    def event(self, event: progress_pb2.ImageEvent) -> None:
        """Moves the bar; at the end says how it went."""
        match event.WhichOneof("event"):
            case "queued":
                self._model = event.queued.model
                self._bar.update(self._task, description=waiting(event.queued.queue_position))
            case "progress":
                now = event.progress
                waits = now.state == _State.STATE_QUEUED
                self._bar.update(
                    self._task,
                    description=stage(now),
                    total=None if waits else 1.0,
                    completed=now.fraction,
                    left=remaining(now),
                )
            case "finish":
                self.close()
                self._output.note(summary(self._model, event.finish))
            case _:
                pass

    def saved(self, image: image_pb2.Image, path: Path) -> None:
        """Names the file and shows the picture, above the bar."""
        self._bar.stop()
        if self._names_files:
            facts = f"{image.width}×{image.height}, seed {image.seed}"
            self._output.out.print(
                Text.assemble((printable(str(path)), "bold"), (f"  {facts}", "dim")),
                soft_wrap=True,
            )
            self._show(image.data)
        self._bar.start()

    def close(self) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def _show(self, data: bytes) -> None:
        if self._graphics is Graphics.NONE:
            return
        from services.cli.image_display import show  # brings Pillow along

        try:
            show(data, self._graphics, self._output.out)
        except OSError as error:
            self._output.note(f"It can't be shown here: {error}", "yellow")


def waiting(position: int) -> str:
    """Says how long the queue is."""
    if position < 1:
        return "waits, next in the queue"
    return f"waits, {position} job{'' if position == 1 else 's'} before it"


def stage(now: progress_pb2.Progress) -> str:
    """Says what is being done."""
    if now.state == _State.STATE_QUEUED:
        return waiting(now.queue_position)
    if now.state == _State.STATE_INTERRUPTING:
        return "stops"
    step = f"step {now.step} of {now.step_count}"
    if now.batch_count > 1:
        return f"batch {now.batch_index + 1} of {now.batch_count}, {step}"
    return step


def remaining(now: progress_pb2.Progress) -> str:
    """Says how long it will take, where that is known."""
    if now.state != _State.STATE_RUNNING or not now.HasField("remaining_duration"):
        return ""
    seconds = round(now.remaining_duration.ToTimedelta().total_seconds())
    if seconds < 60:
        return f"{seconds} s left"
    return f"{seconds // 60} min {seconds % 60} s left"


def summary(model: str, finish: progress_pb2.ImageFinish) -> str:
    """Says with what and how fast the images were drawn."""
    asked, timings = finish.effective_request, finish.timings
    drawing = sum(span.ToTimedelta().total_seconds() for span in (timings.denoise, timings.decode))
    facts = [printable(model), printable(asked.sampler), f"{asked.steps} steps", f"{drawing:.1f} s"]
    if (waited := timings.queue.ToTimedelta().total_seconds()) >= 0.1:
        facts.append(f"after {waited:.1f} s in the queue")
    if finish.reason == progress_pb2.IMAGE_FINISH_REASON_INTERRUPTED:
        facts.append("interrupted: the last image is as it was then")
    return "  " + " · ".join(filter(None, facts))

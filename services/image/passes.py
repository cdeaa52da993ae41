"""One pass: drawings of one or several jobs that the engine draws together, and what is seen of
them on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from services.image.engine import Look, Stage
from services.image.events import Preview
from services.image.jobs import Job


@dataclass(slots=True, eq=False)
class Piece:
    """One image of a job in a pass."""

    job: Job
    index: int
    """Of the image in its job."""
    live: bool = True
    """Whether it is still drawn. Changes on the engine's thread only, while the pass runs."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one step brought."""

    stage: Stage
    moved: Sequence[Piece]
    """Those that went on."""
    kept: Sequence[tuple[Piece, Image.Image]]
    """Those that end as they are now."""
    previews: Sequence[tuple[Piece, Preview]]
    partials: Sequence[tuple[Piece, int, Image.Image]]
    """With the number of the partial picture among those of its image."""


@dataclass(slots=True)
class Pass:
    """Watches a pass, on the engine's thread."""

    pieces: Sequence[Piece]
    post: Callable[[Report], None]
    """Takes reports to the event loop."""
    show: Callable[[Image.Image, int], Preview]
    """Makes a preview of a cheap picture."""

    def watch(self, stage: Stage, look: Look) -> bool:
        """Looks at a pass after a step; False once nobody wants it."""
        last = stage.step >= stage.step_count
        moved: list[Piece] = []
        kept: list[tuple[Piece, Image.Image]] = []
        previews: dict[Job, tuple[Piece, Preview]] = {}
        partials: list[tuple[Piece, int, Image.Image]] = []
        for row, piece in enumerate(self.pieces):
            job = piece.job
            if not piece.live:
                continue
            if job.ended:
                piece.live = False
                continue
            if job.gives_up(piece.index) and not last:  # after the last step it ends by itself
                piece.live = False
                kept.append((piece, look.picture(row)))
                continue
            moved.append(piece)
            interval = job.order.preview_interval_steps
            if interval and not stage.step % interval and job not in previews:
                previews[job] = (piece, self.show(look.preview(row), stage.step))
            if stage.step in job.partial_steps:
                number = job.partial_steps.index(stage.step)
                partials.append((piece, number, look.picture(row)))
        self.post(Report(stage, moved, kept, list(previews.values()), partials))
        return any(piece.live for piece in self.pieces)

"""What an engine's loop tells of its steps. Callers hold the scheduler's lock."""

from collections.abc import Sequence

from services.inference.engines.steps import Batch
from telemetry.tally import Figures


class StepFigures:
    """Counts sequences and time of each step, and how soon cancelled requests are out of them."""

    def __init__(self) -> None:
        self.counted = Figures()
        """Since the engine began."""
        self._planned: float | None = None
        self._cancelled: list[float] = []

    def planned(self, batches: Sequence[Batch], now: float) -> None:
        """Takes in a step that begins."""
        sequences = sum(len(batch.spans) for batch in batches)
        if sequences:
            self.counted.batch.add(sequences)
            self._planned = now

    def cancelled(self, asked: float | None) -> None:
        """Takes in when a request was cancelled, which a step that runs may still compute some of.
        None: it had ended."""
        if asked is not None:
            self._cancelled.append(asked)

    def looked(self, now: float) -> None:
        """Takes in that no step runs now."""
        if self._planned is not None:
            self.counted.step_s.add(now - self._planned)
            self._planned = None
        if self._cancelled:
            for asked in self._cancelled:
                self.counted.cancel_s.add(max(0.0, now - asked))
            self._cancelled.clear()

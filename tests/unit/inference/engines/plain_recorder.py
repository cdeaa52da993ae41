"""A recorder for processors, which have nothing to record with: it runs steps anew."""

from collections.abc import Callable


class PlainRecorder:
    """Does what a device's recorder does, but for speed: warms up, and gives up what it is told to.

    `refused` counts steps that it still refuses to record, as a capture that fails does, `wrong`
    those after them of which nothing comes when they are run.
    """

    def __init__(self, *, warm_ups: int = 0, refused: int = 0, wrong: int = 0) -> None:
        self.recorded = 0
        self.runs = 0
        self.refused = refused
        self.wrong = wrong
        self._warm_ups = warm_ups
        self._era = 0

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        for _ in range(self._warm_ups):
            step()
        if self.refused:
            self.refused -= 1
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        era = self._era

        if self.wrong:
            self.wrong -= 1
            return lambda: None

        def again() -> None:
            assert era == self._era, "a step was run that had been given up"
            self.runs += 1
            step()

        return again

    def reset(self) -> None:
        self._era += 1

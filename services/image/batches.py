"""The images of a job, batch by batch: which wait, which are drawn, and how far they are.

`gives_up` is read on the engine's thread; all else belongs to the event loop.
"""

from collections import deque


class Batches:
    """Counts the images of one job."""

    def __init__(self, size: int, count: int, step_count: int) -> None:
        """Begins with the first of `count` batches of `size` images."""
        self.size = size
        self.count = count
        self.step_count = step_count
        """Denoising steps of an image."""
        self.index = 0
        """The batch being drawn."""
        self.interrupted = False
        self._skipped = -1
        self._left: deque[int] = deque(range(size))
        self._drawing: set[int] = set()
        self._shares: dict[int, float] = {}  # by image of this batch: how much is done

    @property
    def waiting(self) -> int:
        """Images of this batch that wait."""
        return len(self._left)

    @property
    def remaining(self) -> int:
        """Images of all batches that wait."""
        later = self.count - self.index - 1 if self.has_next else 0
        return len(self._left) + later * self.size

    @property
    def has_next(self) -> bool:
        """Whether another batch follows."""
        return not self.interrupted and self.index + 1 < self.count

    @property
    def exhausted(self) -> bool:
        """Whether nothing waits, now or later."""
        return not self._left and not self.has_next

    @property
    def over(self) -> bool:
        """Whether nothing waits nor is drawn."""
        return self.exhausted and not self._drawing

    @property
    def skipped(self) -> bool:
        """Whether this batch was skipped."""
        return self._skipped >= self.index

    @property
    def done(self) -> float:
        """Share of this batch that is done."""
        return sum(self._shares.values()) / self.size

    @property
    def fraction(self) -> float:
        """Share of the whole job that is done."""
        return min(1.0, (self.index + self.done) / self.count)

    def take(self) -> int:
        """Takes the next image, to be drawn now."""
        image = self._left.popleft()
        self._drawing.add(image)
        self._shares[image] = 0.0
        return image

    def gives_up(self, image: int) -> bool:
        """Whether an image that is being drawn ends as it is now."""
        return self.interrupted or image // self.size <= self._skipped

    def stepped(self, image: int, share: float) -> None:
        """Takes in how far an image is."""
        if image in self._drawing:
            self._shares[image] = share

    def drawn(self, image: int) -> None:
        """Takes in that an image needs the engine no more."""
        self._drawing.discard(image)
        self._shares[image] = 1.0
        self._advance()

    def interrupt(self) -> None:
        """Takes out what waits; what is drawn ends as it is."""
        self.interrupted = True
        self._left.clear()

    def skip(self) -> bool:
        """Goes on with the next batch. False where none is being drawn."""
        if self.interrupted or self.skipped or not self._shares:
            return False
        self._skipped = self.index
        self._left.clear()
        self._advance()
        return True

    def _advance(self) -> None:
        if self._left or self._drawing or not self.has_next:
            return
        self.index += 1
        self._shares.clear()
        first = self.index * self.size
        self._left.extend(range(first, first + self.size))

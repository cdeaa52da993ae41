"""One job: where it stands, and what it tells its caller.

A job is drawn batch by batch, and a batch image by image or several at a time, as the engine can.
`ended` and `gives_up` are read on the engine's thread too; all else belongs to the event loop.
"""

import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from services.errors import SlowReader
from services.image.batches import Batches
from services.image.events import (
    Event,
    Finish,
    FinishedImage,
    FinishReason,
    PartialImage,
    Preview,
    Progress,
    Queued,
    State,
    Timings,
)
from services.image.orders import Order
from services.image.outbox import MOST_BYTES, Outbox
from services.image.requests import Priority


class Job:
    """The images of one call. To be used on one event loop."""

    def __init__(
        self,
        id: str,
        principal: str,
        model: str,
        order: Order,
        *,
        streams: bool = True,
        slow_reader_timeout_s: float = 30.0,
        unread_bytes: int = MOST_BYTES,
    ) -> None:
        """Begins to wait. Partial images are for callers that are shown events (`streams`)."""
        self.id = id
        self.principal = principal
        self.model = model
        self.order = order
        self.partial_steps = order.partial_steps if streams else ()
        self.create_time = time.time()
        self.start_time: float | None = None
        self.queue_position = 0
        self.ended = False
        """It has finished or failed, or its caller has gone: nothing more is drawn for it."""
        self.complete = False
        """It has finished."""
        self.stirred: Callable[[], None] = lambda: None
        """Is called when what it waits for may have changed."""
        self._batches = Batches(order.batch_size, order.batch_count, order.step_count)
        self._finishing = 0
        self._cut_short = False
        self._images: list[FinishedImage] = []
        self._partials: dict[int, int] = {}
        self._preview: Preview | None = None
        self._told_preview: Preview | None = None
        self._denoise_s = 0.0
        self._decode_s = 0.0
        self._created, self._started = time.monotonic(), 0.0
        self._outbox = Outbox(
            timeout_s=slow_reader_timeout_s,
            most_bytes=unread_bytes,
            on_room=self._stir,
            on_slow=self._too_slow,
        )

    # Its place in line.

    @property
    def priority(self) -> Priority:
        """Its priority."""
        return self.order.priority

    @property
    def cost(self) -> float:
        """Work of one image."""
        return self.order.cost

    @property
    def waiting(self) -> int:
        """Images of its batch that wait to be drawn; none while its reader is behind."""
        return 0 if self.ended or self._outbox.full else self._batches.waiting

    @property
    def remaining(self) -> int:
        """Its images that wait, now or later."""
        return 0 if self.ended else self._batches.remaining

    def take(self) -> int:
        """Takes the next image, to be drawn now."""
        if self.start_time is None:
            self.start_time = time.time()
            self._started = time.monotonic()
        return self._batches.take()

    # What becomes of its images.

    def gives_up(self, index: int) -> bool:
        """Whether an image that is being drawn ends as it is now. For the engine's thread."""
        return self._batches.gives_up(index)

    def stepped(self, index: int, share: float) -> None:
        """Takes in how far an image is."""
        self._batches.stepped(index, share)

    def looked(self, preview: Preview) -> None:
        """Takes in a cheap picture."""
        self._preview = preview

    def drawn(self, index: int, *, whole: bool = True) -> bool:
        """Takes in that an image needs the engine no more; False where nobody wants it."""
        self._batches.drawn(index)
        self._cut_short |= not whole
        if self.ended:
            return False
        self._finishing += 1
        self._stir()  # the next batch may wait now
        return True

    def spent(self, denoise_s: float, decode_s: float) -> None:
        """Takes in time that passed for it."""
        self._denoise_s += denoise_s
        self._decode_s += decode_s

    def partial(self, image: PartialImage) -> None:
        """Tells of a partial picture, unless a later one is out or its reader is behind."""
        late = image.partial_index <= self._partials.get(image.index, -1)
        if not (self.ended or late or self._outbox.full):
            self._partials[image.index] = image.partial_index
            self._outbox.put(image)

    def finished(self, image: FinishedImage) -> None:
        """Tells of an image."""
        self._finishing -= 1
        if not self.ended:
            self._images.append(replace(image, data=b""))
            self._outbox.put(image)
            self._end_if_done()

    # What it used.

    @property
    def times(self) -> tuple[float, float]:
        """Seconds that it waited, and seconds since then."""
        now = time.monotonic()
        started = self._started or now
        return started - self._created, now - started

    @property
    def image_count(self) -> int:
        """Images that were finished for it."""
        return len(self._images)

    # How it ends.

    def interrupt(self) -> bool:
        """Ends it at the next step, or at once where nothing is drawn. False: it had ended."""
        if self.ended:
            return False
        self._batches.interrupt()
        self._changed()
        return True

    def skip(self) -> bool:
        """Goes on with the next batch. False where none is being drawn."""
        if self.ended or not self._batches.skip():
            return False
        self._changed()
        return True

    def fail(self, error: Exception) -> None:
        """Ends it with an error."""
        if not self.ended:
            self.ended = True
            self._outbox.close(error)
            self._stir()

    def leave(self) -> None:
        """Ends it because nobody reads what it tells."""
        self.ended = True
        self._outbox.abandon()
        self._stir()

    def _too_slow(self) -> None:
        self.ended = True
        message = "Images lay unread for too long. Read the stream as it comes."
        self._outbox.abandon(SlowReader(message))
        self._stir()

    def _changed(self) -> None:
        self.tell()
        self._end_if_done()
        self._stir()

    def _end_if_done(self) -> None:
        if self.ended or self._finishing or not self._batches.over:
            return
        self.ended = self.complete = True
        order, images = self.order, sorted(self._images, key=lambda image: image.index)
        cut_short = self._cut_short or len(images) < len(order.drawings)
        interrupted = self._batches.interrupted and cut_short
        waited_until = self._started or time.monotonic()
        self._outbox.put(
            Finish(
                reason=FinishReason.INTERRUPTED if interrupted else FinishReason.COMPLETED,
                image_count=len(images),
                effective_request=replace(order.effective, job_id=self.id),
                info=order.finisher.info(images),
                prompt_tokens=order.prompt_tokens,
                timings=Timings(waited_until - self._created, self._denoise_s, self._decode_s),
                fingerprint=order.fingerprint,
            )
        )
        self._outbox.close()
        self._stir()

    def _stir(self) -> None:
        self.stirred()

    # What it tells.

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.ended:
            return State.FINISHED
        if self._batches.interrupted:
            return State.INTERRUPTING
        return State.QUEUED if self.start_time is None else State.RUNNING

    def tell(self) -> None:
        """Tells how far it is, with the last preview if it was not told yet."""
        if self.ended:
            return
        preview = None if self._preview is self._told_preview else self._preview
        self._told_preview = self._preview
        self._outbox.put(replace(self.progress(), preview=preview))

    def move_up(self, position: int) -> None:
        """Takes in its place in line, and tells it where it has changed."""
        if position != self.queue_position:
            self.queue_position = position
            self.tell()

    def queued(self) -> Queued:
        """The first event."""
        return Queued(self.id, self.model, self.queue_position, self.create_time)

    def events(self) -> AsyncGenerator[Event, None]:
        """What happens to it, to its end. Raises what it failed with."""
        return self._outbox.events()

    def progress(self) -> Progress:
        """How far it is."""
        batches, state = self._batches, self.state
        fraction = 1.0 if self.complete else batches.fraction
        return Progress(
            job_id=self.id,
            state=state,
            queue_position=self.queue_position if state is State.QUEUED else 0,
            batch_index=batches.index,
            batch_count=batches.count,
            step=round(batches.done * batches.step_count),
            step_count=batches.step_count,
            fraction=fraction,
            remaining_s=self._remaining_s(fraction),
            create_time=self.create_time,
            start_time=self.start_time,
            preview=self._preview,
            skipped=batches.skipped,
        )

    def _remaining_s(self, fraction: float) -> float | None:
        if self.ended:
            return 0.0
        if not self._started or not fraction:
            return None
        return (time.monotonic() - self._started) * (1 - fraction) / fraction

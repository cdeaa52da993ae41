"""One answer of a whole job."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.errors import Internal, MessageTooLarge
from services.image.events import Event, Finish, FinishedImage, Queued

MOST_BYTES = 64 * 1024 * 1024
"""Of all images: what a message holds."""


async def collect(
    events: AsyncGenerator[Event, None], most_bytes: int = MOST_BYTES
) -> tuple[Queued, list[FinishedImage], Finish]:
    """Returns the first event of a job, its images, and its last event.

    Raises `MessageTooLarge` as soon as the images are too large for one message; the job ends.
    """
    queued: Queued | None = None
    images: list[FinishedImage] = []
    size = 0
    async with aclosing(events):
        async for event in events:
            match event:
                case Queued():
                    queued = event
                case FinishedImage():
                    # The file, its infotext here and in `info`, and what goes around them.
                    size += len(event.data) + 3 * len(event.infotext.encode()) + 1024
                    if size > most_bytes:
                        # Thrown into the job: it ends with a failure, nobody has left it.
                        await events.athrow(
                            MessageTooLarge(
                                f"The images don't fit into one answer of {most_bytes} bytes. "
                                f"Stream them (StreamGenerate), or ask for fewer, smaller ones, or "
                                f"JPEG."
                            )
                        )
                    images.append(event)
                case Finish() if queued is not None:
                    return queued, images, event
                case _:
                    pass
    raise Internal("The job ended without a word.")

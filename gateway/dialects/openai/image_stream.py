"""Renders streamed images: partial ones, then each that is finished. No `[DONE]` follows.

A job of one image looks as OpenAI documents it. Of several images, `image_index` tells which one an
event is about, and the tokens of the whole job are those of the last event: they add up.
"""

from collections.abc import Sequence

import msgspec
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.inference.v1 import usage_pb2

from gateway.dialects.openai.envelope import error_frame
from gateway.dialects.openai.fields import Spelling
from gateway.dialects.openai.image_answers import NOTHING, Labels, base64_of, size_of, usage
from gateway.errors import Problem


class ImageStream:
    """One stream: state, no I/O. `prefix` begins the names of its events."""

    def __init__(
        self, prefix: str, labels: Labels, *, several: bool, spelling: Spelling | None = None
    ) -> None:
        self._prefix = prefix
        self._labels = labels
        self._several = several
        self._spelling = spelling
        self._created = 0
        self._held: image_pb2.Image | None = None
        self.finished = False

    def feed(self, event: progress_pb2.ImageEvent) -> Sequence[bytes]:
        """Makes the frames of an event."""
        match event.WhichOneof("event"):
            case "queued":
                self._created = event.queued.create_time.seconds
                return (b"",)  # nothing to show, but the job was admitted: the answer begins
            case "partial":
                return (self._partial(event.partial),)
            case "image":
                before, self._held = self._held, event.image
                return () if before is None else (self._completed(before, None),)
            case "finish":
                if self._held is None:
                    return (self.fail(NOTHING),)
                self.finished = True
                return (self._completed(self._held, event.finish.usage),)
            case _:
                return ()

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        self.finished = True
        return error_frame(problem if self._spelling is None else self._spelling(problem))

    def _partial(self, image: progress_pb2.PartialImage) -> bytes:
        return self._frame("partial_image", image, {"partial_image_index": image.partial_index})

    def _completed(self, image: image_pb2.Image, counts: usage_pb2.Usage | None) -> bytes:
        return self._frame("completed", image, {"usage": usage(counts)})

    def _frame(
        self,
        kind: str,
        image: image_pb2.Image | progress_pb2.PartialImage,
        more: dict[str, object],
    ) -> bytes:
        name = f"{self._prefix}.{kind}".encode("ascii")
        rest: dict[str, object] = {
            "created_at": self._created,
            "size": size_of(image),
            "quality": self._labels.quality,
            "background": self._labels.background,
            "output_format": self._labels.output_format,
            **more,
        }
        if self._several:
            rest["image_index"] = image.index
        parts = (
            b"event: ",
            name,
            b'\ndata: {"type":"',
            name,
            b'","b64_json":"',
            base64_of(image.data),
            b'",',
            msgspec.json.encode(rest)[1:],
            b"\n\n",
        )
        return b"".join(parts)

"""Events of the image service, gathered into a whole answer."""

from binascii import b2a_base64
from dataclasses import dataclass

import msgspec
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.inference.v1 import usage_pb2

from gateway.dialects.openai import image_schema as schema
from gateway.errors import Problem, ProblemError
from gateway.holding import Held, Holder

_QUALITIES: dict[schema.Quality, schema.ResultQuality] = {
    "auto": "medium",
    "standard": "medium",
    "hd": "high",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}

NOTHING = Problem("CANCELLED", "The job was interrupted before an image was finished. Try again.")


@dataclass(frozen=True, slots=True)
class Labels:
    """What an answer repeats of its request."""

    background: str
    output_format: schema.FileFormat
    quality: schema.ResultQuality

    @classmethod
    def of(cls, body: schema.ImageOptions) -> "Labels":
        """The labels for a request. `auto` is what it stands for."""
        return cls(
            "transparent" if body.background == "transparent" else "opaque",
            body.output_format or "png",
            _QUALITIES[body.quality or "auto"],
        )


class WholeImages:
    """The images of one job, as its events bring them."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._created = 0
        self._size = ""
        self._holder = Holder()
        self._images: dict[int, Held] = {}
        self._usage = usage(None)
        self.finished = False

    def add(self, event: progress_pb2.ImageEvent) -> None:
        """Takes the next event.

        Raises:
            ProblemError: the job was ended with nothing to show.
        """
        match event.WhichOneof("event"):
            case "queued":
                self._created = event.queued.create_time.seconds
            case "image":
                image = event.image
                self._images[image.index] = self._holder.hold(base64_of(image.data))
                self._size = self._size or size_of(image)
            case "finish":
                if not self._images:
                    raise ProblemError(NOTHING)
                self._usage = usage(event.finish.usage)
                self.finished = True
            case _:
                pass

    def pieces(self) -> list[Held]:
        """Makes the body, in pieces: together they may be far larger than a request."""
        pieces: list[Held] = [b'{"created":%d,"data":[' % self._created]
        for number, index in enumerate(sorted(self._images)):
            before = b',{"b64_json":"' if number else b'{"b64_json":"'
            pieces += (before, self._images[index], b'"}')
        rest = {
            "background": self._labels.background,
            "output_format": self._labels.output_format,
            "size": self._size,
            "quality": self._labels.quality,
            "usage": self._usage,
        }
        return [*pieces, b"]," + msgspec.json.encode(rest)[1:]]


def usage(counts: usage_pb2.Usage | None) -> schema.ImageUsage:
    """Renders the tokens of the prompts; pictures cost none."""
    tokens = 0 if counts is None else counts.prompt_tokens
    return schema.ImageUsage(tokens, tokens, 0, schema.ImageInputTokens(tokens, 0))


def size_of(image: image_pb2.Image | progress_pb2.PartialImage) -> str:
    """Renders the size of a picture."""
    return f"{image.width}x{image.height}"


def base64_of(data: bytes) -> bytes:
    """Renders a file."""
    return b2a_base64(data, newline=False)

"""Bounds of requests. What goes beyond one is refused before anything is drawn, and told which."""

from dataclasses import dataclass

from services.errors import InvalidArgument

_SECTION = "[services.image]"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one request; names are those of the settings."""

    max_pixels: int = 2048 * 2048
    """Of an image, in its final size."""
    max_steps: int = 150
    """Of one pass."""
    max_batch_size: int = 16
    max_images: int = 64
    """Of a job: batch_size times batch_count."""
    max_input_pixels: int = 33_554_432
    """Of each initial image and mask."""

    def check_steps(self, steps: int, field: str) -> None:
        """Refuses too many steps."""
        if steps > self.max_steps:
            raise _refused(field, f"{steps} steps", self.max_steps, "max_steps")

    def check_count(self, batch_size: int, batch_count: int) -> None:
        """Refuses too many images."""
        if batch_size > self.max_batch_size:
            refused = f"{batch_size} images together"
            raise _refused("batch_size", refused, self.max_batch_size, "max_batch_size")
        if (images := batch_size * batch_count) > self.max_images:
            field = "batch_count" if batch_count > 1 else "batch_size"
            raise _refused(field, f"{images} images", self.max_images, "max_images")

    def check_size(self, width: int, height: int, field: str) -> None:
        """Refuses too many pixels."""
        if width * height > self.max_pixels:
            refused = f"{width}x{height} are {width * height} pixels"
            raise _refused(field, refused, self.max_pixels, "max_pixels")


def _refused(field: str, asked: str, most: int, setting: str) -> InvalidArgument:
    return InvalidArgument(
        f"'{field}': {asked}; this service allows {most} ({_SECTION} {setting}). Ask for less.",
        field=field,
        metadata={"limit": setting},
    )


def too_much_memory(needed: int, budget: int, image: str) -> InvalidArgument:
    """What is told of an image that memory doesn't do for."""
    return InvalidArgument(
        f"'width': drawing {image} takes about {_in_words(needed)} of memory; there is "
        f"{_in_words(budget)} ({_SECTION} memory_bytes). Ask for a smaller image.",
        field="width",
        metadata={"limit": "memory_bytes"},
    )


def _in_words(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count >= 1024**3 else f"{max(1, count >> 20)} MiB"

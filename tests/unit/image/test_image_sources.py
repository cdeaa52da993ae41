"""Initial images and masks: measured first, then decoded, a few at a time, whoever waits."""

import asyncio
import io
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.errors import QueueFull
from services.image import sources
from services.image.defaults import Options
from services.image.engines.echo_engine import EchoModel, EchoSettings
from services.image.limits import Limits
from services.image.orders import Order
from services.image.pictures.reading import Picture, PictureLimits, read_picture, read_size
from services.image.preparing import Preparer, Target
from services.image.requests import ImageRequest, InpaintingWish, MaskFill, Resize
from services.image.sources import THREADS, Source, Threads, held_bytes, read_sizes, read_source
from tests.unit.image.gated_model import until

GIB = 1024**3
LIMITS = Limits(max_pixels=512 * 512, max_input_pixels=600 * 600)


def saved(width: int, height: int, colour: Any = "red", kind: str = "PNG", turn: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = turn
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind, exif=exif)
    return file.getvalue()


class Decodes:
    """Decodes as the service does, and counts the pictures that are in memory in full."""

    def __init__(self) -> None:
        self.live = self.peak = self.count = 0
        self.gate: threading.Event | None = None
        """What is decoded waits for it, where there is one."""
        self._lock = threading.Lock()

    def __call__(self, data: bytes, field: str, limits: PictureLimits) -> Picture:
        picture = read_picture(data, field, limits)
        with self._lock:
            self.live += 1
            self.count += 1
            self.peak = max(self.peak, self.live)
        weakref.finalize(picture.image, self._gone)
        if self.gate is not None:
            assert self.gate.wait(60)
        return picture

    def _gone(self) -> None:
        with self._lock:
            self.live -= 1


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Decodes:
    found = Decodes()
    monkeypatch.setattr(sources, "read_picture", found)
    return found


Prepare = Callable[..., Any]


@pytest.fixture
async def prepare() -> AsyncIterator[Prepare]:
    model = EchoModel(EchoSettings(width=128, height=64))

    with closing(Threads()) as threads:
        preparer = Preparer(threads, LIMITS, "Penstock 0")

        async def prepared(hold: Callable[[int], None] = lambda _: None, **more: Any) -> Order:
            request = ImageRequest(**{"prompt": "a", "seed": 5, "width": 64, "height": 64} | more)
            target = Target("echo", model, "fp", lambda: GIB)
            return await preparer.prepare(request, Options(), target, hold)

        yield prepared
    await model.close()


MASK = InpaintingWish(mask=saved(500, 500, "white"), full_resolution=False)


@pytest.mark.parametrize("mask", [None, MASK])
async def test_many_callers_hold_no_more_than_a_few_whole_pictures(
    prepare: Prepare, decodes: Decodes, mask: InpaintingWish | None
) -> None:
    files = [saved(500, 400 + number) for number in range(30)]
    orders = await asyncio.gather(*(prepare(init_images=[file], inpainting=mask) for file in files))
    each = 1 if mask is None else 2
    assert decodes.count == 30 * each, "every picture was decoded, once"
    assert decodes.peak <= THREADS * each
    assert decodes.live == 0
    assert len({id(order.drawings[0].initial) for order in orders}) == 30


async def test_the_bound_holds_while_callers_leave(prepare: Prepare, decodes: Decodes) -> None:
    decodes.gate = threading.Event()
    file = saved(500, 500)
    leaving = [asyncio.create_task(prepare(init_images=[file])) for _ in range(8)]
    await until(lambda: decodes.live == THREADS)
    for call in leaving:
        call.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    staying = [asyncio.create_task(prepare(init_images=[file] * 2, batch_size=2)) for _ in range(4)]
    for _ in range(50):  # nobody goes past those who are still at work for nobody
        await asyncio.sleep(0.001)
    assert decodes.live == THREADS
    decodes.gate.set()
    await asyncio.gather(*staying)
    assert decodes.peak <= THREADS
    assert decodes.count == THREADS + 4 * 2, (
        "for those who left while they waited, none was decoded"
    )
    assert decodes.live == 0


async def test_room_is_asked_for_before_anything_is_decoded(
    prepare: Prepare, decodes: Decodes
) -> None:
    def full(count: int) -> None:
        raise QueueFull(f"{count}")

    with pytest.raises(QueueFull, match=str(2 * 64 * 64 * 4)):
        await prepare(full, init_images=[saved(500, 500)] * 2, batch_size=2)
    assert decodes.count == 0


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    kind=st.sampled_from(["PNG", "JPEG", "WEBP"]),
    turn=st.integers(0, 9),
)
def test_headers_tell_the_size_that_comes_out(
    width: int, height: int, kind: str, turn: int
) -> None:
    data, limits = saved(width, height, kind=kind, turn=turn), PictureLimits(10_000, 100)
    assert read_size(data, "f", limits) == read_picture(data, "f", limits).image.size


WISHES: dict[str, tuple[InpaintingWish | None, Resize]] = {
    "stretched": (None, Resize.STRETCH),
    "filled": (None, Resize.FILL),
    "in latents": (None, Resize.LATENT),
    "a mask": (MASK, Resize.STRETCH),
    "a mask over what is around": (replace(MASK, fill=MaskFill.SURROUNDINGS), Resize.CROP),
    "the masked part alone": (replace(MASK, full_resolution=True), Resize.STRETCH),
}


def images_of(source: Source) -> dict[int, Image.Image]:
    """All pictures that are reached from a source."""
    cells: Any = getattr(source.retouch, "__closure__", None) or ()
    found = [source.initial, source.mask, *(cell.cell_contents for cell in cells)]
    return {id(one): one for one in found if isinstance(one, Image.Image)}


@pytest.mark.parametrize("what", WISHES)
def test_what_is_held_is_told_before(what: str) -> None:
    wish, mode = WISHES[what]
    asked = ImageRequest(
        init_images=[saved(403, 300), saved(64, 500, "blue")],
        inpainting=wish,
        width=96,
        height=64,
        resize_mode=mode,
    )
    told = held_bytes(read_sizes(asked, LIMITS), asked, 8, LIMITS)
    held = 0
    for number in range(2):
        source = read_source(asked, number, 8, LIMITS)
        for image in images_of(source).values():
            held += image.width * image.height * (1 if image.mode == "L" else 4)
    assert held <= told <= 2 * held

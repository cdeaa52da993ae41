"""What `penstock image` makes of its words, of events, and of terminals."""

import base64
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.image.v1 import image_pb2, progress_pb2
from PIL import Image
from rich.console import Console

from services.cli.failures import Failure, UsageFailure
from services.cli.graphics import Graphics, graphics_of
from services.cli.image_display import MOST_ROWS, show
from services.cli.image_files import MAX_BYTES, Destination, destination, read_picture
from services.cli.image_request import Wishes, batch_size, to_request
from services.cli.image_view import remaining, stage, summary, waiting

State = progress_pb2.Progress


def wishes(**given: object) -> Wishes:
    nothing = dict.fromkeys(
        ("model", "size", "steps", "cfg", "seed", "init", "strength", "mask", "quality")
    )
    texts = dict.fromkeys(("negative", "sampler", "scheduler"), "")
    return Wishes(**(nothing | texts | {"prompt": "a circle", "count": 1} | given))  # type: ignore[arg-type]


def picture(path: Path, size: tuple[int, int] = (8, 8), colour: str = "red") -> Path:
    Image.new("RGB", size, colour).save(path)
    return path


def test_what_is_not_said_is_left_to_the_service() -> None:
    request = to_request(wishes(), "png")
    assert {field.name for field, _ in request.ListFields()} == {
        *("prompt", "batch_size", "batch_count", "output_format")
    }


def test_everything_that_is_said_reaches_the_service(tmp_path: Path) -> None:
    init, mask = picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg", colour="white")
    request = to_request(
        wishes(
            model="mine", negative="blue", size="64x96", steps=5, cfg=1.5, seed=-1,
            sampler="Euler", scheduler="karras", count=6, init=init, strength=0.0, mask=mask,
            quality=0,
        ),
        "webp",
    )  # fmt: skip
    assert request == image_pb2.ImageRequest(
        model="mine", prompt="a circle", negative_prompt="blue", width=64, height=96, steps=5,
        cfg_scale=1.5, seed=-1, sampler="Euler", scheduler="karras", batch_size=3, batch_count=2,
        init_images=[init.read_bytes()], denoising_strength=0.0, quality=0,
        inpainting=image_pb2.Inpainting(mask=mask.read_bytes()),
        output_format=image_pb2.OUTPUT_FORMAT_WEBP,
    )  # fmt: skip


@given(st.integers(1, 1000))
def test_batches_are_whole(count: int) -> None:
    together = batch_size(count)
    assert 1 <= together <= 4
    assert count % together == 0
    assert all(count % more for more in range(together + 1, 5))


@pytest.mark.parametrize(
    ("size", "sides"),
    [("512", (512, 512)), ("64x96", (64, 96)), ("64X96", (64, 96)), ("64×96", (64, 96))],
)
def test_sizes(size: str, sides: tuple[int, int]) -> None:
    request = to_request(wishes(size=size), "png")
    assert (request.width, request.height) == sides


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ({"size": "big"}, "'big' is no size"),
        ({"size": "64x"}, "no size"),
        ({"size": "-64x64"}, "no size"),
        ({"size": "64x64x64"}, "no size"),
        ({"strength": 0.0}, "--strength needs a picture"),
        ({"mask": Path("m.png")}, "--mask needs a picture"),
        ({"quality": 50}, "--quality is for JPEG and WebP"),
    ],
)
def test_words_that_make_no_sense(said: dict[str, object], about: str) -> None:
    with pytest.raises(UsageFailure, match=re.escape(about)):
        to_request(wishes(**said), "png")


def test_pictures_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "a.png"
    text.write_text("not a picture")
    with pytest.raises(UsageFailure, match="is not a picture") as caught:
        read_picture(text)
    assert "PNG, JPEG and WebP" in caught.value.hint
    with pytest.raises(UsageFailure, match=r"can't be read: No such file"):
        read_picture(tmp_path / "none.png")
    huge = tmp_path / "huge.png"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UsageFailure, match="larger than 64 MiB"):
        read_picture(huge)


def test_pictures_that_are_too_large_together(tmp_path: Path) -> None:
    half = picture(tmp_path / "half.png")
    with half.open("ab") as file:
        file.truncate(MAX_BYTES // 2 + 1)
    with pytest.raises(UsageFailure, match="64 MiB together"):
        to_request(wishes(init=half, mask=half), "png")


@pytest.mark.parametrize(
    ("output", "format_", "made"),
    [
        (None, None, "png"),
        (None, "webp", "webp"),
        ("-", None, "png"),
        ("-", "jpeg", "jpeg"),
        ("a.png", None, "png"),
        ("a.JPG", None, "jpeg"),
        ("a.jpeg", "jpeg", "jpeg"),
        ("a.webp", None, "webp"),
        ("a", None, "png"),
        ("a.dat", "webp", "webp"),
    ],
)
def test_formats_by_name(output: str | None, format_: str | None, made: str) -> None:
    assert destination(output, format_, 1, force=False).format == made


@pytest.mark.parametrize(
    ("output", "format_", "count", "about"),
    [
        ("a.bmp", None, 1, "format of a.bmp"),
        ("a.png", "jpeg", 1, "which its ending denies"),
        ("-", None, 2, "Only one image"),
    ],
)
def test_files_that_make_no_sense(output: str, format_: str | None, count: int, about: str) -> None:
    with pytest.raises(UsageFailure, match=about):
        destination(output, format_, count, force=False)


def test_a_file_is_refused_before_the_work_unless_forced(tmp_path: Path) -> None:
    old = tmp_path / "a.png"
    old.write_bytes(b"old")
    with pytest.raises(UsageFailure, match=r"a\.png exists") as caught:
        Destination(old, "png", 1).check()
    assert "--force" in caught.value.hint
    forced = Destination(old, "png", 1, force=True)
    forced.check()
    assert forced.write(0, b"new") == old
    assert old.read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"], "no draft stays"


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="does not exist"):
        Destination(tmp_path / "no" / "a.png", "png", 1).check()
    with pytest.raises(UsageFailure, match="is a folder"):
        Destination(tmp_path, "png", 1, force=True).check()


def test_several_images_have_numbers_that_sort(tmp_path: Path) -> None:
    place = Destination(tmp_path / "a.png", "png", 12)
    assert [place.path_of(index).name for index in (0, 8, 11)] == [
        *("a-01.png", "a-09.png", "a-12.png")
    ]
    (tmp_path / "a-09.png").touch()
    with pytest.raises(UsageFailure, match=r"a-09\.png exists"):
        place.check()


def test_an_image_is_never_lost_to_a_file_that_came_meanwhile(tmp_path: Path) -> None:
    place = Destination(tmp_path / "a.png", "png", 1)
    place.check()
    (tmp_path / "a.png").write_bytes(b"of somebody else")
    written = place.write(0, b"mine")
    assert written == tmp_path / "a-2.png"
    assert written.read_bytes() == b"mine"
    assert (tmp_path / "a.png").read_bytes() == b"of somebody else"


def test_names_are_free_ones_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image-1.webp").touch()
    place = Destination(None, "webp", 2)
    place.check()
    assert [place.write(index, b"x").name for index in (0, 1)] == ["image-2.webp", "image-3.webp"]


def test_a_file_that_can_not_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"can't be written: No such file"):
        Destination(tmp_path / "gone" / "a.png", "png", 1).write(0, b"x")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": State.STATE_QUEUED, "queue_position": 1}, "waits, 1 job before it"),
        ({"state": State.STATE_QUEUED, "queue_position": 3}, "waits, 3 jobs before it"),
        ({"state": State.STATE_QUEUED}, "waits, next in the queue"),
        ({"state": State.STATE_RUNNING, "step": 3, "step_count": 20}, "step 3 of 20"),
        (
            {"state": State.STATE_RUNNING, "step_count": 5, "batch_index": 1, "batch_count": 4},
            "batch 2 of 4, step 0 of 5",
        ),
        ({"state": State.STATE_INTERRUPTING, "step": 3}, "stops"),
    ],
)
def test_stages(fields: dict[str, int], said: str) -> None:
    assert stage(State(**fields)) == said  # type: ignore[arg-type]


def test_the_time_that_is_left() -> None:
    now = State(state=State.STATE_RUNNING)
    assert remaining(now) == ""
    now.remaining_duration.FromMilliseconds(12_400)
    assert remaining(now) == "12 s left"
    now.remaining_duration.FromSeconds(61)
    assert remaining(now) == "1 min 1 s left"
    now.state = State.STATE_QUEUED
    assert remaining(now) == ""
    assert waiting(2) == "waits, 2 jobs before it"


def test_the_summary() -> None:
    finish = progress_pb2.ImageFinish(
        effective_request=image_pb2.ImageRequest(sampler="Euler a", steps=20)
    )
    finish.timings.denoise.FromMilliseconds(2500)
    finish.timings.decode.FromMilliseconds(500)
    assert summary("starter", finish) == "  starter · Euler a · 20 steps · 3.0 s"
    finish.timings.queue.FromSeconds(2)
    finish.reason = progress_pb2.IMAGE_FINISH_REASON_INTERRUPTED
    assert summary("starter", finish).endswith(
        "after 2.0 s in the queue · interrupted: the last image is as it was then"
    )


def console(**given: object) -> Console:
    options = {"file": io.StringIO(), "force_terminal": True, "width": 40, "height": 20}
    return Console(**(options | {"color_system": "truecolor", "_environ": {}} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environment", "graphics"),
    [
        ({"TERM": "xterm-kitty"}, Graphics.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Graphics.KITTY),
        ({"TERM_PROGRAM": "ghostty"}, Graphics.KITTY),
        ({"TERM_PROGRAM": "iTerm.app"}, Graphics.ITERM),
        ({"TERM_PROGRAM": "WezTerm"}, Graphics.ITERM),
        ({"LC_TERMINAL": "iTerm2"}, Graphics.ITERM),
        ({"TERM": "xterm"}, Graphics.BLOCKS),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, Graphics.BLOCKS),
        ({"TERM_PROGRAM": "tmux", "LC_TERMINAL": "iTerm2"}, Graphics.BLOCKS),
    ],
)
def test_terminals(environment: dict[str, str], graphics: Graphics) -> None:
    assert graphics_of(environment, console()) is graphics


def test_terminals_that_can_not() -> None:
    assert graphics_of({"TERM": "xterm"}, console(color_system="256")) is Graphics.NONE
    assert graphics_of({"TERM": "xterm"}, console(no_color=True)) is Graphics.NONE
    assert graphics_of({"TERM": "xterm-kitty"}, console(force_terminal=False)) is Graphics.NONE
    dumb = console(_environ={"TERM": "dumb"})
    assert graphics_of({"TERM": "xterm-kitty"}, dumb) is Graphics.NONE


def shown(graphics: Graphics, image: Image.Image, **given: object) -> str:
    file, screen = io.BytesIO(), console(**given)
    image.save(file, "PNG")
    show(file.getvalue(), graphics, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def halves() -> Image.Image:
    image = Image.new("RGB", (64, 64), "red")
    image.paste("blue", (0, 32, 64, 64))
    return image


def test_half_blocks_have_the_colours_of_the_picture() -> None:
    lines = shown(Graphics.BLOCKS, halves()).rstrip("\n").split("\n")
    assert len(lines) == 16, "20 lines, without those around it"
    assert all(line.count("▀") == 32 for line in lines)
    assert "\x1b[38;2;255;0;0;48;2;255;0;0m" in lines[0]
    assert "\x1b[38;2;0;0;255;48;2;0;0;255m" in lines[-1]


@pytest.mark.parametrize("size", [(2000, 10), (10, 2000), (1, 1), (8, 8)])
def test_pictures_of_any_shape_fit(size: tuple[int, int]) -> None:
    lines = shown(Graphics.BLOCKS, Image.new("RGB", size)).rstrip("\n").split("\n")
    assert 1 <= len(lines) <= MOST_ROWS
    assert all(1 <= line.count("▀") < 40 for line in lines)


def noise(side: int) -> Image.Image:
    return Image.effect_noise((side, side), 100).convert("RGB")


def test_kitty_gets_the_picture_in_chunks() -> None:
    image = noise(100)
    sent = shown(Graphics.KITTY, image)
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", sent)
    assert "".join(f"\x1b_G{head};{data}\x1b\\" for head, data in parts) + "\n" == sent
    assert parts[0][0] == "a=T,f=100,q=2,r=16,m=1"
    assert {head for head, _ in parts[1:-1]} <= {"m=1"}
    assert parts[-1][0] == "m=0"
    assert all(len(data) <= 4096 for _, data in parts)
    data = base64.b64decode("".join(data for _, data in parts))
    assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()


def test_iterm_gets_the_picture() -> None:
    image = noise(30)
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07\n", shown(Graphics.ITERM, image))
    assert found is not None
    data = base64.b64decode(found[2])
    assert found[1] == f"inline=1;size={len(data)};height=16;preserveAspectRatio=1"
    assert Image.open(io.BytesIO(data)).tobytes() == image.tobytes()


def test_large_pictures_are_sent_smaller() -> None:
    sent = shown(Graphics.KITTY, Image.new("RGB", (4096, 1024)))
    data = base64.b64decode("".join(re.findall(r";([^\x1b]*)\x1b", sent)))
    assert Image.open(io.BytesIO(data)).size == (1024, 256)


def test_what_is_no_picture_is_an_os_error() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        show(b"nothing", Graphics.BLOCKS, console())

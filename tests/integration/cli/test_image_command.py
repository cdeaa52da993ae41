"""`penstock image`, on a whole platform whose engine needs no model."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner, Result
from penstock.image.v1 import image_service_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from PIL import Image

from services.cli.image import INTERRUPTED
from services.cli.main import main
from tests.e2e.stack import Platform, configuration, running
from tests.integration.cli.conftest import ENVIRONMENT
from tests.integration.cli.terminal import Terminal, assert_soon
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)
SMALL = ("--size", "64", "--steps", "3")
MANY = ("--count", "64", "--size", "2048", "--steps", "100", "--no-show")
PLAIN = {"TERM_PROGRAM": "", "LC_TERMINAL": "", "TMUX": "", "STY": "", "KITTY_WINDOW_ID": ""}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("echo")
    models = {"painter": {"path": str(folder), "type": "image", "aliases": ["brush"]}}
    with running(folder, configuration(models), "--engine", "echo", ready_within_s=200) as started:
        yield started


Draw = Callable[..., Result]


@pytest.fixture
def draw(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0) -> Result:
        everything = ["image", *words, "--data-dir", str(platform.data_dir)]
        result = CliRunner().invoke(main, everything, env=ENVIRONMENT)
        assert result.exit_code == status, (result.output, result.stderr, result.exception)
        return result

    return run


def depth(platform: Platform) -> int:
    with grpc.insecure_channel(platform.address("image")) as channel:
        status = ImageServiceStub(channel).GetQueueStatus(
            image_service_pb2.GetQueueStatusRequest(),
            metadata=(("authorization", f"Bearer {platform.key}"),),
            timeout=10,
        )
    return status.depth


def opened(data: bytes | Path) -> Image.Image:
    image = Image.open(io.BytesIO(data) if isinstance(data, bytes) else data)
    image.load()
    return image


def test_a_picture_and_what_is_said_of_it(draw: Draw, tmp_path: Path) -> None:
    result = draw("a red circle on blue", "-o", "out.png", "--seed", "5", *SMALL)
    assert result.stdout == "out.png  64×64, seed 5\n"
    assert "painter · Euler a · 3 steps" in result.stderr
    image = opened(tmp_path / "out.png")
    assert (image.format, image.size) == ("PNG", (64, 64))
    assert image.info["parameters"].startswith("a red circle on blue\n")
    assert "Seed: 5" in image.info["parameters"]
    draw("a red circle on blue", "-o", "again.png", "--seed", "5", *SMALL)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["again.png", "out.png"]


def test_without_a_name_files_get_the_next_free_one(draw: Draw, tmp_path: Path) -> None:
    assert draw("a circle", *SMALL).stdout.startswith("image-1.png  64×64, seed ")
    result = draw("a circle", "--format", "webp", "--count", "2", *SMALL)
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("image-1.webp", "image-2.webp")
    ]
    assert opened(tmp_path / "image-2.webp").format == "WEBP"


def test_several_have_seeds_in_a_row_and_each_is_the_single_one(draw: Draw, tmp_path: Path) -> None:
    result = draw("stars", "-o", "s.png", "--count", "6", "--seed", "40", *SMALL)
    said = sorted(result.stdout.splitlines())  # they come as they are finished
    assert said == [f"s-{n}.png  64×64, seed {39 + n}" for n in range(1, 7)]
    draw("stars", "-o", "alone.png", "--seed", "45", *SMALL)
    assert (tmp_path / "s-6.png").read_bytes() == (tmp_path / "alone.png").read_bytes()


def test_every_option_is_heard(draw: Draw, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "green").save(tmp_path / "start.png")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    mask.save(tmp_path / "mask.webp", lossless=True)
    words = ["-m", "brush", "-n", "nothing", "--size", "64x64", "--steps", "8", "--cfg", "3.5"]
    words += ["--seed", "9", "--sampler", "k_euler", "--scheduler", "Karras"]
    words += ["--init", "start.png", "--mask", "mask.webp", "--strength", "0.5", "-o", "o.jpg"]
    result = draw("a star", "--quality", "90", *words, "--json")
    *others, finish = (json.loads(line) for line in result.stdout.splitlines())
    effective = finish["finish"]["effective_request"]
    assert effective | {
        "model": "painter", "prompt": "a star", "negative_prompt": "nothing", "width": 64,
        "height": 64, "steps": 8, "cfg_scale": 3.5, "seed": "9", "sampler": "Euler",
        "scheduler": "karras", "denoising_strength": 0.5, "quality": 90,
        "output_format": "OUTPUT_FORMAT_JPEG",
    } == effective  # fmt: skip
    [image] = [event["image"] for event in others if "image" in event]
    assert image["path"] == "o.jpg"
    assert "data" not in image
    drawn = opened(tmp_path / "o.jpg")
    assert drawn.format == "JPEG"
    left, right = drawn.getpixel((4, 32)), drawn.getpixel((60, 32))
    assert isinstance(left, tuple)
    assert abs(left[1] - 128) < 12, "the black part of the mask is kept"
    assert left != right


def test_json_lines_tell_all_of_it(draw: Draw) -> None:
    events = [json.loads(line) for line in draw("x", *SMALL, "--json").stdout.splitlines()]
    kinds = [next(iter(event)) for event in events]
    assert kinds[0] == "queued"
    assert kinds[-1] == "finish"
    assert set(kinds) == {"queued", "progress", "image", "finish"}
    assert events[0]["queued"]["model"] == "painter"
    assert events[-1]["finish"]["reason"] == "IMAGE_FINISH_REASON_COMPLETED"


def test_into_a_pipe(draw: Draw, tmp_path: Path) -> None:
    result = draw("x", "-o", "-", "--format", "jpeg", *SMALL)
    assert opened(result.stdout_bytes).format == "JPEG"
    assert list(tmp_path.iterdir()) == []
    refused = draw("x", "-o", "-", "--json", *SMALL, status=2)
    assert "can't be both an image and JSON" in refused.stderr


def test_a_file_that_exists(draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"mine")
    result = draw("x", "-o", "out.png", *SMALL, status=2)
    assert result.stderr.splitlines() == [
        "Error: out.png exists.",
        "--force overwrites it; -o names another file.",
    ]
    assert (tmp_path / "out.png").read_bytes() == b"mine"
    draw("x", "-o", "out.png", "--force", *SMALL)
    assert opened(tmp_path / "out.png").size == (64, 64)


def broken_png() -> bytes:
    """A PNG whose pixels are missing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-o", "no/out.png"), 2, ("The folder no does not exist.", "mkdir -p no")),
        (("-o", "out.bmp"), 2, ("in the format of out.bmp", ".webp")),
        (("--init", "none.png"), 2, ("none.png", "does not exist")),
        (("--init", "text.png"), 2, ("text.png is not a picture",)),
        (("--init", "broken.png"), 1, ("init_images[0]", "The file is broken.png.")),
        (("--init", "good.png", "--mask", "broken.png"), 1, ("mask", "The file is broken.png.")),
        (("--strength", "0.5"), 2, ("--strength needs a picture",)),
        (("--size", "65"), 1, ("Width must be a multiple of 8",)),
        (("--size", "large"), 2, ("'large' is no size",)),
        (("--sampler", "Oils"), 1, ("Oils", "Euler a")),
        (("--scheduler", "never"), 1, ("never", "Karras")),
        (("--model", "nobody"), 1, ("nobody", "penstock models list --kind image")),
        (("--steps", "100000"), 2, ("100000",)),
        (("--api-key", "wrong"), 1, ("unknown, revoked or expired", "--api-key")),
    ],
)
def test_what_is_refused_says_why(
    draw: Draw, tmp_path: Path, words: tuple[str, ...], status: int, said: tuple[str, ...]
) -> None:
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "broken.png").write_bytes(broken_png())
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    before = sorted(tmp_path.iterdir())
    result = draw("x", *words, status=status)
    for word in said:
        assert word in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert sorted(tmp_path.iterdir()) == before
    if status == 1:
        error = json.loads(draw("x", *words, "--json", status=1).stderr)["error"]
        assert error["code"] in {"INVALID_ARGUMENT", "NOT_FOUND", "UNAUTHENTICATED"}


def test_a_service_that_is_away(draw: Draw, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    result = draw("x", "--image-address", address, status=1)
    assert f"Can't reach the image service at {address}." in result.stderr
    assert "--image-address" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def terminal(platform: Platform, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*words: str, **variables: str) -> Terminal:
        everything = ["image", *words, "--data-dir", str(platform.data_dir)]
        started.append(Terminal(everything, tmp_path, **(PLAIN | variables)))
        return started[-1]

    yield start
    for each in started:
        each.close()


Start = Callable[..., Terminal]


def test_a_terminal_with_colours_shows_the_picture(terminal: Start, tmp_path: Path) -> None:
    shown = terminal("a sunset", "-o", "out.png", *SMALL, COLORTERM="truecolor")
    shown.see("out.png  64×64, seed ")
    shown.see("▀▀▀▀")
    assert shown.end() == 0
    assert opened(tmp_path / "out.png").size == (64, 64)
    assert b"\x1b[38;2;" in shown.raw


@pytest.mark.parametrize(
    ("variables", "begin"),
    [({"TERM": "xterm-kitty"}, b"\x1b_Ga=T,f=100"), ({"TERM_PROGRAM": "iTerm.app"}, b"\x1b]1337;")],
)
def test_a_terminal_with_pictures_gets_the_file(
    terminal: Start, variables: dict[str, str], begin: bytes
) -> None:
    shown = terminal("a sunset", "-o", "out.png", *SMALL, **variables)
    assert shown.end() == 0
    assert begin in shown.raw
    assert "▀".encode() not in shown.raw


@pytest.mark.parametrize("words", [("--no-show",), ("--json",)])
def test_a_terminal_that_shall_show_nothing(terminal: Start, words: tuple[str, ...]) -> None:
    shown = terminal("a sunset", "-o", "out.png", *words, *SMALL, TERM="xterm-kitty")
    assert shown.end() == 0
    assert b"out.png" in shown.raw
    assert b"\x1b_G" not in shown.raw
    assert "▀".encode() not in shown.raw


def test_ctrl_c_ends_the_job(terminal: Start, platform: Platform, tmp_path: Path) -> None:
    shown = terminal("a forest", "-o", "trees.png", *MANY)
    shown.see("trees-01.png")
    shown.see("batch ")
    shown.see(" of 16, step ")
    assert depth(platform) == 1
    shown.type("\x03")
    shown.see("Stopped. Written by then: trees-01.png")
    assert shown.end() == INTERRUPTED
    assert_soon(lambda: depth(platform) == 0)
    files = sorted(tmp_path.iterdir())
    assert 1 <= len(files) < 64
    for file in files:
        assert opened(file).size == (2048, 2048), "none is half"


def test_a_small_job_comes_between_the_pictures_of_a_large_one(
    terminal: Start, platform: Platform, tmp_path: Path
) -> None:
    large = terminal("a forest", "-o", "trees.png", *MANY)
    large.see("trees-01.png")
    small = terminal("a lake", "-o", "lake.png", *SMALL)
    small.see("lake.png  64×64, seed ", 120)
    assert small.end() == 0
    assert not (tmp_path / "trees-64.png").exists()
    large.type("\x03")
    assert large.end() == INTERRUPTED
    assert_soon(lambda: depth(platform) == 0)

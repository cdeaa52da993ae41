"""Files of images: the same for the same picture, whenever and for whom it is drawn."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.errors import AlreadyExists, InvalidArgument, Unavailable
from services.image import files as image_files
from services.image.checkpoints import Checkpoint
from services.image.defaults import Options
from services.image.directory import ENDED_S, MOST_ENDED, Directory
from services.image.engine import Plan
from services.image.events import State
from services.image.facts import Describer
from services.image.files import finisher
from services.image.jobs import Job
from services.image.options import OptionsFile
from services.image.orders import Order
from services.image.pictures.infotext import parse_infotext
from services.image.requests import (
    Background,
    Caller,
    HiresWish,
    ImageRequest,
    InpaintingWish,
    MaskFill,
    OutputFormat,
    TuningWish,
    VariationWish,
)

CHECKPOINT = Checkpoint("some", "0123456789abcdef" * 4, "model")
ASKED = ImageRequest(
    model="some",
    prompt="a, b: c",
    negative_prompt="d",
    width=64,
    height=48,
    steps=9,
    cfg_scale=7.5,
    sampler="DPM++ 2M",
    scheduler="sgm_uniform",
    seed=3,
    batch_size=2,
    batch_count=1,
    clip_skip=2,
    output_format=OutputFormat.PNG,
    quality=100,
)
PICTURE = Image.linear_gradient("L").resize((64, 48)).convert("RGB")


def describer(**changes: Any) -> Describer:
    return Describer(replace(ASKED, **changes), CHECKPOINT, "Penstock 0")


def file_of(**changes: Any) -> Any:
    describing = describer(**changes)
    return finisher(describing.asked, describing, (64, 48))


def test_bytes_hold_neither_time_nor_job(monkeypatch: pytest.MonkeyPatch) -> None:
    first = file_of(job_id="one").image(1, PICTURE)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    second = file_of(job_id="two", user="me").image(1, PICTURE)
    assert first == second
    assert first.seed == 4
    assert file_of().image(0, PICTURE).data != first.data


def test_the_infotext_tells_all() -> None:
    text = describer(
        variation=VariationWish(subseed=8, strength=0.25, seed_width=32, seed_height=32),
        denoising_strength=0.6,
        tiling=True,
        inpainting=InpaintingWish(
            b"",
            invert_mask=True,
            blur_pixels=3,
            fill=MaskFill.LATENT_NOISE,
            full_resolution=True,
            padding_pixels=5,
        ),
        tuning=TuningWish(eta=0.5, s_churn=0.0, s_noise=1.1),
    ).infotext(1)
    found = parse_infotext(text)
    assert {key: found[key] for key in found if key not in ("Version", "Model hash")} == {
        "Prompt": "a, b: c",
        "Negative prompt": "d",
        "Steps": "9",
        "Sampler": "DPM++ 2M",
        "Schedule type": "SGM Uniform",
        "CFG scale": "7.5",
        "Seed": "4",
        "Size": "64x48",
        "Size-1": "64",
        "Size-2": "48",
        "Model": "some",
        "Variation seed": "9",
        "Variation seed strength": "0.25",
        "Seed resize from": "32x32",
        "Seed resize from-1": "32",
        "Seed resize from-2": "32",
        "Denoising strength": "0.6",
        "Clip skip": "2",
        "Tiling": "True",
        "Mask blur": "3",
        "Mask mode": "Inpaint not masked",
        "Inpaint area": "Only masked",
        "Masked area padding": "5",
        "Masked content": "latent noise",
        "Eta": "0.5",
        "Sigma noise": "1.1",
    }
    assert (found["Version"], found["Model hash"]) == ("Penstock 0", "0123456789")


def test_the_second_pass_tells_what_differs() -> None:
    wish = HiresWish(
        width=128,
        height=96,
        upscaler="Latent",
        steps=4,
        denoising_strength=0.7,
        prompt="a, b: c",
        negative_prompt="other",
        sampler="Euler",
        scheduler="automatic",
        cfg_scale=7.5,
    )
    describing = describer(hires=wish)
    found = parse_infotext(describing.infotext(0))
    hires = {key: value for key, value in found.items() if key.startswith("Hires")}
    assert hires == {
        "Hires resize": "128x96",
        "Hires resize-1": "128",
        "Hires resize-2": "96",
        "Hires steps": "4",
        "Hires upscaler": "Latent",
        "Hires sampler": "Euler",
        "Hires schedule type": "Automatic",
        "Hires negative prompt": "other",
    }
    assert found["Denoising strength"] == "0.7"
    assert describing.info([])["denoising_strength"] == 0.7


def test_info_goes_with_the_images_that_came() -> None:
    describing = describer(variation=VariationWish(subseed=8, strength=0.25))
    made = finisher(describing.asked, describing, (64, 48))
    info = made.info([made.image(1, PICTURE)])
    assert (info["seed"], info["all_seeds"], info["all_subseeds"]) == (3, [4], [9])
    assert info["infotexts"] == [describing.infotext(1)]
    assert info["all_prompts"] == ["a, b: c"]
    assert (info["sd_model_name"], info["sd_model_hash"]) == ("some", "0123456789")
    assert len(info["job_timestamp"]) == 14
    json.dumps(info)


def test_transparency_is_kept_or_laid_on_white() -> None:
    picture = PICTURE.convert("RGBA")
    picture.putalpha(0)
    kept = Image.open(io.BytesIO(file_of().image(0, picture).data))
    assert kept.mode == "RGBA"
    opaque = Image.open(io.BytesIO(file_of(background=Background.OPAQUE).image(0, picture).data))
    assert opaque.getpixel((3, 3)) == (255, 255, 255)


def test_a_partial_picture_has_the_final_size() -> None:
    partial = file_of().partial(0, 2, PICTURE.resize((8, 6)))
    assert (partial.width, partial.height, partial.partial_index) == (64, 48, 2)
    assert Image.open(io.BytesIO(partial.data)).size == (64, 48)


def test_a_format_holds_only_so_many_pixels() -> None:
    describing = describer(output_format=OutputFormat.WEBP)
    with pytest.raises(InvalidArgument) as caught:
        finisher(describing.asked, describing, (16_384, 8))
    assert caught.value.field == "output_format"


def test_a_file_that_no_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MOST_BYTES", 100)
    with pytest.raises(image_files.MessageTooLarge):
        file_of().image(0, PICTURE)


# Jobs by ID.


async def job(id: str, principal: str = "p") -> Job:
    plan = Plan(8, 8, 1, 7.0, "Euler", "automatic")
    describing = describer()
    made = finisher(describing.asked, describing, (8, 8))
    return Job(id, principal, "m", Order(plan, [], 1, 1, 1, 1.0, made, ASKED, "fp"))


async def test_jobs_are_found_by_those_who_may() -> None:
    directory = Directory()
    owner, other, admin = Caller("p"), Caller("q"), Caller("q", is_admin=True)
    with directory.taking("x") as id, directory.listing(one := await job(id)):
        assert directory.find("x", owner) is directory.find("x", admin) is one
        assert directory.find("x", other) is None
        assert directory.named("", owner) == [], "it waits"
        one.take()
        assert directory.named("", owner) == [one]
        assert directory.named("", admin) == []
        with pytest.raises(AlreadyExists), directory.taking("x"):
            pass
        newer = await job("y")
        with directory.listing(newer):
            found = directory.progress("", owner)
            assert found is not None
            assert found.job_id == "x"
    ended = directory.progress("x", owner)
    assert ended is not None
    assert ended.state is State.FINISHED
    assert directory.progress("x", other) is None
    with directory.taking("x"), directory.taking("") as new:
        assert new.startswith("job-")


async def test_ended_jobs_are_forgotten() -> None:
    now = 0.0
    directory = Directory(lambda: now)
    for number in range(MOST_ENDED + 5):
        with directory.listing(await job(str(number))):
            pass
    owner = Caller("p")
    assert directory.progress("4", owner) is None
    assert directory.progress("5", owner) is not None
    now = ENDED_S + 1
    assert directory.progress(str(MOST_ENDED), owner) is None


# Options.


async def test_options_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "options.json"
    options = OptionsFile(path)
    wanted = Options("m", "v", 3, OutputFormat.WEBP, 7)
    assert await options.change(lambda _: wanted) == wanted
    assert OptionsFile(path).current == wanted
    before = path.read_text()
    with pytest.raises(ZeroDivisionError):
        await options.change(lambda _: 1 // 0)  # type: ignore[arg-type, return-value]
    assert path.read_text() == before
    assert options.current == wanted
    unwritable = OptionsFile(tmp_path / "file" / "options.json")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unavailable):
        await unwritable.change(lambda _: wanted)
    assert unwritable.current == Options()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', '{"clip_skip": 99}', '{"output_format": "bmp"}', "\xff"]
)
def test_a_broken_file_of_options_is_left_out(tmp_path: Path, text: str) -> None:
    path = tmp_path / "options.json"
    path.write_bytes(text.encode("latin-1"))
    assert OptionsFile(path).current == Options()

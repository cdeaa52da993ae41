"""ImageService over a socket: images, their seeds and words, and every refusal with its field."""

import io
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.image.v1 import image_pb2, progress_pb2, sampler_pb2
from penstock.image.v1 import image_service_pb2 as pb
from penstock.inference.v1 import priority_pb2, queue_pb2
from PIL import Image

from services.image.engines.echo_engine import EchoLoader
from services.image.samplers import SAMPLERS
from tests.integration.image.image_platform import (
    SIDE,
    SMALL,
    USER,
    Platform,
    events_of,
    files,
    platform_of,
    reason,
    request,
    served,
)

FINISHED = progress_pb2.Progress.STATE_FINISHED
COMPLETED = progress_pb2.IMAGE_FINISH_REASON_COMPLETED


def png(size: tuple[int, int] = (SIDE, SIDE), colour: Any = "red", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG", **more)
    return file.getvalue()


def half_mask() -> bytes:
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    file = io.BytesIO()
    mask.save(file, "PNG")
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def list_of(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason(caught.value)


async def test_image_k_is_the_single_image_of_its_seed(platform: Platform) -> None:
    together = await platform.image.Generate(
        request(batch_size=3, batch_count=2, seed=40), metadata=USER
    )
    assert [image.index for image in together.images] == [0, 1, 2, 3, 4, 5]
    assert [image.seed for image in together.images] == [40, 41, 42, 43, 44, 45]
    for image in together.images:
        alone = await platform.image.Generate(request(seed=image.seed), metadata=USER)
        assert alone.images[0].data == image.data
        assert alone.images[0].infotext == image.infotext
        assert opened(image.data).text["parameters"] == image.infotext  # type: ignore[attr-defined]
    assert len({image.data for image in together.images}) == 6
    assert alone.finish.fingerprint == together.finish.fingerprint


async def test_the_answer_tells_all(platform: Platform) -> None:
    answer = await platform.image.Generate(
        request(
            "a red circle", model="org/alias", negative_prompt="blur", cfg_scale=7.3, job_id="x"
        ),
        metadata=USER,
    )
    assert (answer.job_id, answer.model) == ("x", "echo")
    finish = answer.finish
    assert (finish.reason, finish.image_count) == (COMPLETED, 1)
    assert finish.usage.prompt_tokens == finish.usage.total_tokens == 4
    asked = finish.effective_request
    assert (asked.width, asked.height, asked.steps, asked.seed) == (SIDE, SIDE, 4, 7)
    assert (asked.sampler, asked.batch_size, asked.batch_count) == ("Euler a", 1, 1)
    assert asked.cfg_scale == pytest.approx(7.3, rel=1e-6)
    assert asked.output_format == image_pb2.OUTPUT_FORMAT_PNG
    assert asked.job_id == "x"
    info = json_format.MessageToDict(finish.info)
    assert set(info) == {
        *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds"),
        *("subseed", "all_subseeds", "subseed_strength", "width", "height", "sampler_name"),
        *("cfg_scale", "steps", "batch_size", "restore_faces", "face_restoration_model"),
        *("sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w"),
        *("seed_resize_from_h", "denoising_strength", "extra_generation_params"),
        *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip"),
        *("is_using_inpainting_conditioning", "version"),
    }
    assert info["infotexts"] == [answer.images[0].infotext]
    assert answer.images[0].infotext.startswith("a red circle\nNegative prompt: blur\nSteps: 4, ")
    assert "CFG scale: 7.3, Seed: 7, Size: 64x64, Model hash: " in answer.images[0].infotext


async def test_a_seed_is_drawn_and_told(platform: Platform) -> None:
    for given_seed in ({}, {"seed": -1}):
        asked = request(batch_size=2, variation=image_pb2.Variation(strength=0.5))
        asked.ClearField("seed")
        asked.MergeFrom(image_pb2.ImageRequest(**given_seed))
        answer = await platform.image.Generate(asked, metadata=USER)
        first, second = answer.images
        assert 0 <= first.seed == second.seed - 1 < 2**32 - 2
        assert 0 <= first.subseed == second.subseed - 1 < 2**32 - 2
        effective = answer.finish.effective_request
        assert (effective.seed, effective.variation.subseed) == (first.seed, first.subseed)
        again = await files(platform.image.Generate(effective, metadata=USER))
        assert again == [first.data, second.data]


@pytest.mark.parametrize(
    ("format", "quality", "mime_type"),
    [
        (image_pb2.OUTPUT_FORMAT_PNG, None, "image/png"),
        (image_pb2.OUTPUT_FORMAT_JPEG, 30, "image/jpeg"),
        (image_pb2.OUTPUT_FORMAT_WEBP, 60, "image/webp"),
        (image_pb2.OUTPUT_FORMAT_WEBP, None, "image/webp"),
    ],
)
async def test_every_format_says_what_it_was_drawn_with(
    platform: Platform, format: Any, quality: int | None, mime_type: str
) -> None:
    asked = request("ein Kreis, größer: ☃", output_format=format, quality=quality)
    answer = await platform.image.Generate(asked, metadata=USER)
    image = answer.images[0]
    assert image.mime_type == mime_type == Image.MIME[str(opened(image.data).format)]
    read = await platform.image.ReadInfo(pb.ReadInfoRequest(image=image.data), metadata=USER)
    assert read.infotext == image.infotext
    assert read.parameters["Prompt"] == "ein Kreis, größer: ☃"
    assert read.parameters["Seed"] == "7"


async def test_a_stream_shows_how_it_goes(platform: Platform) -> None:
    asked = request(
        steps=8, batch_size=2, batch_count=2, preview_interval_steps=1, partial_image_count=3
    )
    call = platform.image.StreamGenerate(asked, metadata=USER)
    events = await events_of(call)
    kinds = [kind for kind, _ in events]
    assert (kinds[0], kinds[-1]) == ("queued", "finish")
    assert kinds.count("finish") == kinds.count("queued") == 1
    images = [event for kind, event in events if kind == "image"]
    assert sorted(image.index for image in images) == [0, 1, 2, 3]
    partials = [event for kind, event in events if kind == "partial"]
    assert sorted((each.index, each.partial_index) for each in partials) == [
        (index, number) for index in range(4) for number in range(3)
    ]
    for number, (kind, event) in enumerate(events):
        if kind == "image":  # all that is part of the way came before
            later = [each for later, each in events[number:] if later == "partial"]
            assert event.index not in [each.index for each in later]
    assert {opened(each.data).size for each in partials} == {(SIDE, SIDE)}
    progress = [event for kind, event in events if kind == "progress"]
    fractions = [each.fraction for each in progress]
    assert fractions == sorted(fractions)
    previews = [each.preview for each in progress if each.HasField("preview")]
    assert previews
    assert {each.mime_type for each in previews} == {"image/jpeg"}
    assert max(opened(each.data).width for each in previews) < SIDE
    assert events[-1][1].image_count == 4


async def test_images_that_start_from_others(platform: Platform) -> None:
    async def drawn(**more: Any) -> Any:
        return await platform.image.Generate(request(**more), metadata=USER)

    kept = await drawn(init_images=[png((80, 48))], denoising_strength=0.0)
    assert (kept.images[0].width, kept.images[0].height) == (80, 48)
    assert opened(kept.images[0].data).getpixel((20, 20)) == (255, 0, 0)
    assert kept.finish.effective_request.denoising_strength == 0
    assert not kept.finish.effective_request.init_images
    odd = await drawn(init_images=[png((83, 50))])
    assert (odd.images[0].width, odd.images[0].height) == (80, 48), "the model draws multiples of 8"
    several = await drawn(
        init_images=[png(colour="red"), png(colour="blue")], batch_size=4, denoising_strength=0.0
    )
    colours = [opened(image.data).getpixel((9, 9)) for image in several.images]
    assert colours == [(255, 0, 0), (0, 0, 255)], "they make the batch"
    latent = await drawn(
        init_images=[png((32, 32))], width=SIDE, height=SIDE, resize_mode=4, denoising_strength=0.5
    )
    assert latent.images[0].width == SIDE
    tall = await drawn(init_images=[png((32, 64))], width=SIDE, height=32, resize_mode=2)
    assert (tall.images[0].width, tall.images[0].height) == (SIDE, 32)


@pytest.mark.parametrize("full_resolution", [True, False])
async def test_only_what_the_mask_shows_is_drawn_anew(
    platform: Platform, full_resolution: bool
) -> None:
    inpainting = image_pb2.Inpainting(
        mask=half_mask(), full_resolution=full_resolution, blur_pixels=0
    )
    asked = request(init_images=[png()], inpainting=inpainting, denoising_strength=1.0)
    left = await platform.image.Generate(asked, metadata=USER)
    picture = opened(left.images[0].data)
    assert picture.size == (SIDE, SIDE)
    red = (255, 0, 0)
    pixels = {(x, y): picture.getpixel((x, y)) for x in range(SIDE) for y in range(SIDE)}
    assert {pixels[x, y] for x in range(SIDE // 2, SIDE) for y in range(SIDE)} == {red}
    assert {pixels[x, y] for x in range(SIDE // 2) for y in range(SIDE)} != {red}
    effective = left.finish.effective_request.inpainting
    assert (effective.blur_pixels, effective.mask) == (0, b"")
    asked.inpainting.invert_mask = True
    right = await platform.image.Generate(asked, metadata=USER)
    assert opened(right.images[0].data).getpixel((3, 3)) == red
    assert "Mask mode: Inpaint not masked" in right.images[0].infotext


async def test_a_second_pass_enlarges(platform: Platform) -> None:
    for hires, size in (
        (image_pb2.Hires(), (128, 128)),
        (image_pb2.Hires(scale=1.5, upscaler="lanczos"), (96, 96)),
        (image_pb2.Hires(width=128), (128, 128)),
        (image_pb2.Hires(width=128, height=96, steps=2), (128, 96)),
    ):
        answer = await platform.image.Generate(request(hires=hires), metadata=USER)
        image = answer.images[0]
        assert (image.width, image.height) == size
        assert f"Hires resize: {size[0]}x{size[1]}" in image.infotext
        effective = answer.finish.effective_request
        again = await files(platform.image.Generate(effective, metadata=USER))
        assert again == [image.data]


def init(**more: Any) -> image_pb2.ImageRequest:
    return request(init_images=[png()], **more)


def tuned(**more: Any) -> image_pb2.SamplerTuning:
    return image_pb2.SamplerTuning(**more)


BOMB = png((4096, 4096), "white", optimize=True)
LIMIT = "INVALID_ARGUMENT"
REFUSED: list[tuple[image_pb2.ImageRequest, tuple[str, str]]] = [
    (request(model="none"), ("MODEL_NOT_FOUND", "model")),
    (request(model="loading"), ("MODEL_NOT_READY", "model")),
    (request(model="broken"), ("MODEL_NOT_READY", "model")),
    (request(model="talker"), (LIMIT, "model")),
    (request(width=20), (LIMIT, "")),
    (request(width=512, height=512), (LIMIT, "width")),
    (request(steps=51), (LIMIT, "steps")),
    (request(batch_size=9), (LIMIT, "batch_size")),
    (request(batch_size=8, batch_count=2), (LIMIT, "batch_count")),
    (request(seed=2**53 - 1, batch_size=2), (LIMIT, "seed")),
    (request(sampler="Nope"), (LIMIT, "sampler")),
    (request(scheduler="Nope"), (LIMIT, "scheduler")),
    (request(vae="other.pt"), (LIMIT, "vae")),
    (request(quality=50), (LIMIT, "quality")),
    (request(background=2), ("UNSUPPORTED_PARAMETER", "background")),
    (request(denoising_strength=0.5), (LIMIT, "denoising_strength")),
    (request(resize_mode=2), (LIMIT, "resize_mode")),
    (request(inpainting=image_pb2.Inpainting(mask=half_mask())), (LIMIT, "")),
    (
        request(sampler_tuning=tuned(initial_noise_multiplier=0.5)),
        (LIMIT, "sampler_tuning.initial_noise_multiplier"),
    ),
    (request(hires=image_pb2.Hires(scale=2, width=128)), (LIMIT, "hires.scale")),
    (request(hires=image_pb2.Hires(scale=4.0), width=128, height=128), (LIMIT, "hires")),
    (request(hires=image_pb2.Hires(width=32)), (LIMIT, "hires.width")),
    (request(hires=image_pb2.Hires(upscaler="x4")), (LIMIT, "hires.upscaler")),
    (request(hires=image_pb2.Hires(sampler="x4")), (LIMIT, "hires.sampler")),
    (request(hires=image_pb2.Hires(scheduler="x4")), (LIMIT, "hires.scheduler")),
    (request(hires=image_pb2.Hires(steps=51)), (LIMIT, "hires.steps")),
    (
        request(variation=image_pb2.Variation(strength=0.1, subseed=2**53 - 1), batch_size=2),
        (LIMIT, "variation.subseed"),
    ),
    (request(init_images=[png(), png()]), (LIMIT, "init_images")),
    (init(hires=image_pb2.Hires()), (LIMIT, "")),
    (request(init_images=[b"nothing"]), (LIMIT, "init_images[0]")),
    (request(init_images=[png()[:60]]), (LIMIT, "init_images[0]")),
    (request(init_images=[BOMB]), (LIMIT, "init_images[0]")),
    (request(init_images=[png(), b"GIF89a"], batch_size=2), (LIMIT, "init_images[1]")),
    (request(init_images=[png((300, 300))]), (LIMIT, "width")),
    (init(inpainting=image_pb2.Inpainting(mask=b"x")), (LIMIT, "inpainting.mask")),
    (init(inpainting=image_pb2.Inpainting(mask=png(colour="black"))), (LIMIT, "inpainting.mask")),
    (
        request(
            init_images=[png((400, 400))],
            width=64,
            height=64,
            inpainting=image_pb2.Inpainting(mask=png((400, 400), "white")),
        ),
        (LIMIT, "init_images"),
    ),
    (request(job_id="a b"), (LIMIT, "job_id")),
    (request(priority=priority_pb2.PRIORITY_HIGH), ("PERMISSION_DENIED", "priority")),
]


@pytest.mark.parametrize(("asked", "want"), REFUSED)
async def test_refusals_name_the_field(
    platform: Platform, asked: image_pb2.ImageRequest, want: tuple[str, str]
) -> None:
    assert await refusal(platform.image.Generate(asked, metadata=USER)) == want
    assert await refusal(anext(aiter(platform.image.StreamGenerate(asked, metadata=USER)))) == want


async def test_unknown_names_list_those_there_are(platform: Platform) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.image.Generate(request(sampler="Nope"), metadata=USER)
    assert "DPM++ 2M" in str(caught.value.details())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.image.Generate(request(steps=51), metadata=USER)
    assert "[services.image] max_steps" in str(caught.value.details())


async def test_names_of_samplers_and_schedules(platform: Platform) -> None:
    for sampler, scheduler, want in (
        ("DPM++ 2M Karras", "", ("DPM++ 2M", "karras")),
        ("k_euler", "SGM Uniform", ("Euler", "sgm_uniform")),
        ("dpm++ 2m", "AUTOMATIC", ("DPM++ 2M", "automatic")),
        ("", "", ("Euler a", "automatic")),
    ):
        asked = request(sampler=sampler, scheduler=scheduler)
        effective = (await platform.image.Generate(asked, metadata=USER)).finish.effective_request
        assert (effective.sampler, effective.scheduler) == want


async def test_lists_come_in_pages(platform: Platform) -> None:
    names: list[str] = []
    token = ""
    while True:
        asked = pb.ListSamplersRequest(page_size=3, page_token=token, model="default-image")
        page = await platform.image.ListSamplers(asked, metadata=USER)
        names += [sampler.name for sampler in page.samplers]
        token = page.next_page_token
        if not token:
            break
    assert names == sorted(sampler.name for sampler in SAMPLERS)
    all_at_once = await platform.image.ListSchedulers(pb.ListSchedulersRequest(), metadata=USER)
    assert "karras" in [scheduler.name for scheduler in all_at_once.schedulers]
    assert not all_at_once.next_page_token
    wrong = pb.ListSchedulersRequest(page_token="?")
    assert await refusal(platform.image.ListSchedulers(wrong, metadata=USER)) == (
        "INVALID_ARGUMENT",
        "page_token",
    )
    found = await platform.image.ListCheckpoints(pb.ListCheckpointsRequest(), metadata=USER)
    loaded = {each.model: each.loaded for each in found.checkpoints}
    assert loaded == {
        "batched": True,
        "broken": False,
        "echo": True,
        "gated": True,
        "loading": False,
    }
    echo = next(each for each in found.checkpoints if each.model == "echo")
    assert echo.title == f"echo.safetensors [{echo.sha256[:10]}]"
    for name in ("", echo.title, echo.checkpoint_name, "models/echo"):
        answer = await platform.image.Generate(request(model=name), metadata=USER)
        assert answer.model == "echo"
    # All three have the weights of the echo engine.
    many = platform.image.Generate(request(model=echo.short_hash), metadata=USER)
    assert await refusal(many) == ("INVALID_ARGUMENT", "model")


async def test_options_are_kept_over_a_restart(tmp_path: Path) -> None:
    async def change(platform: Platform, *paths: str, **values: Any) -> sampler_pb2.Options:
        asked = pb.SetOptionsRequest(
            options=sampler_pb2.Options(**values), update_mask=FieldMask(paths=paths)
        )
        return await platform.image.SetOptions(asked, metadata=USER)

    other = await served("other", EchoLoader(SMALL))
    async with platform_of(tmp_path, other) as platform:
        first = await platform.image.GetOptions(pb.GetOptionsRequest(), metadata=USER)
        assert first.model == "echo", "the default model"
        await change(platform, model="other", clip_skip=2)
        await change(platform, output_format=image_pb2.OUTPUT_FORMAT_JPEG, vae="Automatic")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(platform, model="none")
        assert reason(caught.value) == ("MODEL_NOT_FOUND", "model")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(platform, vae="other.pt")
        assert reason(caught.value) == ("INVALID_ARGUMENT", "options.vae")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await change(platform, "nothing")
        assert reason(caught.value) == ("INVALID_ARGUMENT", "update_mask")
    written = json.loads((tmp_path / "image-options.json").read_text())
    assert (written["model"], written["output_format"]) == ("other", "jpeg")
    assert not list_of(tmp_path, ".image-options*"), "nothing half written stays"
    other = await served("other", EchoLoader(SMALL))
    async with platform_of(tmp_path, other) as platform:
        now = await platform.image.GetOptions(pb.GetOptionsRequest(), metadata=USER)
        assert (now.model, now.clip_skip, now.vae) == ("other", 2, "Automatic")
        answer = await platform.image.Generate(request(model=""), metadata=USER)
        assert answer.model == "other"
        effective = answer.finish.effective_request
        assert (effective.clip_skip, effective.output_format) == (2, image_pb2.OUTPUT_FORMAT_JPEG)
        now = await change(platform, "clip_skip", "model")
        assert (now.model, now.HasField("clip_skip")) == ("echo", False)
    async with platform_of(tmp_path) as platform:
        await change(platform, model="gated")
        (tmp_path / "image-options.json").write_text("{broken")
    async with platform_of(tmp_path) as platform:
        now = await platform.image.GetOptions(pb.GetOptionsRequest(), metadata=USER)
        assert now.model == "echo", "a broken file is left out"


async def test_a_restart_draws_the_same_bytes(tmp_path: Path) -> None:
    asked = request("same", init_images=[png()], batch_size=2, output_format=3, quality=70)
    found: list[Any] = []
    for _ in range(2):
        async with platform_of(tmp_path) as platform:
            answer = await platform.image.Generate(asked, metadata=USER)
            found.append(([each.data for each in answer.images], answer.finish.fingerprint))
    assert found[0] == found[1]


async def test_pictures_without_words(platform: Platform) -> None:
    async def read(image: bytes) -> pb.ReadInfoResponse:
        return await platform.image.ReadInfo(pb.ReadInfoRequest(image=image), metadata=USER)

    assert await read(png()) == pb.ReadInfoResponse()
    assert await refusal(read(b"nothing")) == ("INVALID_ARGUMENT", "image")


async def test_credentials(platform: Platform) -> None:
    assert (await refusal(platform.image.Generate(request())))[0] == "MISSING_CREDENTIALS"


async def test_the_queue_tells_of_all_models(platform: Platform) -> None:
    await platform.image.Generate(request(), metadata=USER)
    queue = await platform.image.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    assert (queue.depth, queue.pending, queue.active_workers, queue.completed_24h) == (0, 0, 0, 1)
    worker = queue_pb2.QueueStatus.Worker
    assert {each.model: each.state for each in queue.workers} == {
        "echo": worker.STATE_IDLE,
        "gated": worker.STATE_IDLE,
        "batched": worker.STATE_IDLE,
        "loading": worker.STATE_LOADING,
        "broken": worker.STATE_OFFLINE,
    }
    assert {each.type for each in queue.workers} == {"sd"}


SOME = st.sampled_from([-(2**31), -1, 0, 1, 2, 7, 8, 64, 65, 72, 1000, 16_384, 2**31 - 1])
SHARE = st.sampled_from([-1.0, 0.0, 0.3, 1.0, 2.0, 30.0, float("inf"), float("nan")])
WORDS = st.one_of(
    st.text(max_size=20), st.sampled_from(["Euler", "karras", "", "\0", "x" * 300, "Lanczos"])
)
FILE = st.one_of(
    st.binary(max_size=40), st.sampled_from([png(), png((8, 16)), BOMB, half_mask(), png()[:-9]])
)


def _drawn(draw: Any, message: Any) -> Any:
    """Fills some fields of a message with whatever there is."""
    for descriptor in message.DESCRIPTOR.fields:
        if draw(st.integers(0, 3)):
            continue
        name, kind = descriptor.name, descriptor.type
        if descriptor.message_type is not None:
            _drawn(draw, getattr(message, name)).SetInParent()
        elif name == "init_images":
            message.init_images.extend(draw(st.lists(FILE, max_size=3)))
        elif kind == descriptor.TYPE_BYTES:
            setattr(message, name, draw(FILE))
        elif kind == descriptor.TYPE_STRING:
            setattr(message, name, draw(WORDS))
        elif kind == descriptor.TYPE_BOOL:
            setattr(message, name, draw(st.booleans()))
        elif kind == descriptor.TYPE_FLOAT:
            setattr(message, name, draw(SHARE))
        elif kind == descriptor.TYPE_ENUM:
            setattr(message, name, draw(st.integers(-1, 5)))
        else:
            setattr(message, name, draw(SOME))
    return message


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_nothing_that_is_sent_is_an_internal_error(
    platform: Platform, data: st.DataObject
) -> None:
    asked = _drawn(data.draw, image_pb2.ImageRequest())
    if data.draw(st.integers(0, 3)):
        asked.model = "echo"
    outcome = await _outcome(platform.image.Generate(asked, metadata=USER))
    assert outcome in {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
    }


async def _outcome(call: Any) -> grpc.StatusCode:
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    assert answer.finish.image_count == len(answer.images) >= 1
    return grpc.StatusCode.OK

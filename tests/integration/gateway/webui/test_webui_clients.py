"""`webuiapi`, the client that people use, before real services: nothing is scripted here."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import webuiapi
from PIL import Image, ImageDraw

from tests.integration.gateway.webui.webui_platform import (
    WebuiPlatform,
    until_served,
    webui_platform,
)

LONG = {"steps": 150, "n_iter": 64, "width": 2048, "height": 2048}
"""Takes longer than any test waits for it."""
_WAIT_S = 90


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebuiPlatform]:
    with webui_platform(tmp_path_factory.mktemp("webui")) as platform:
        yield platform


@pytest.fixture
def api(platform: WebuiPlatform) -> Iterator[webuiapi.WebUIApi]:
    api = webuiapi.WebUIApi(platform.host, platform.port)
    api.set_auth("anyone", platform.tokens[0])
    yield api
    api.session.close()


@pytest.fixture
def other(platform: WebuiPlatform) -> Iterator[webuiapi.WebUIApi]:
    api = webuiapi.WebUIApi(
        platform.host, platform.port, username="other", password=platform.tokens[1]
    )
    yield api
    api.session.close()


@pytest.fixture
def http(platform: WebuiPlatform) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {platform.tokens[0]}"}
    url = f"http://{platform.host}:{platform.port}"
    with httpx.Client(base_url=url, headers=headers, timeout=_WAIT_S) as http:
        yield http


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_txt2img(api: webuiapi.WebUIApi) -> None:
    drawn = api.txt2img(prompt="a cat", negative_prompt="dog", seed=1003, steps=4, n_iter=2)
    assert [image.size for image in drawn.images] == [(512, 512)] * 2
    assert drawn.info["all_seeds"] == [1003, 1004]
    assert drawn.info["infotexts"] == [image.info["parameters"] for image in drawn.images]
    for word in ("a cat", "Negative prompt: dog", "Steps: 4", "Sampler: Euler a", "Seed: 1003"):
        assert word in drawn.info["infotexts"][0]
    assert drawn.parameters["seed"] == 1003
    assert set(drawn.info) >= {
        *("prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds"),
        *("subseed", "all_subseeds", "subseed_strength", "width", "height", "sampler_name"),
        *("cfg_scale", "steps", "batch_size", "restore_faces", "face_restoration_model"),
        *("sd_model_name", "sd_model_hash", "sd_vae_name", "sd_vae_hash", "seed_resize_from_w"),
        *("seed_resize_from_h", "denoising_strength", "extra_generation_params"),
        *("index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip"),
        *("is_using_inpainting_conditioning", "version"),
    }
    # Image k of a batch is the single image of seed + k, to the byte.
    single = api.txt2img(prompt="a cat", negative_prompt="dog", seed=1004, steps=4)
    assert single.json["images"] == drawn.json["images"][1:]
    batch = api.txt2img(prompt="a cat", negative_prompt="dog", seed=1003, steps=4, batch_size=2)
    assert batch.json["images"] == drawn.json["images"]


def test_a_seed_is_drawn_and_told(api: webuiapi.WebUIApi) -> None:
    drawn = api.txt2img(prompt="x", steps=1, width=64, height=64)
    seed = drawn.parameters["seed"]
    assert 0 <= seed < 2**32 - 2
    assert drawn.info["seed"] == seed
    again = api.txt2img(prompt="x", steps=1, width=64, height=64, seed=seed)
    assert again.json["images"] == drawn.json["images"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler_name": "DPM++ 2M Karras"}, ("Sampler: DPM++ 2M,", "Schedule type: Karras")),
        ({"sampler_name": "k_euler"}, ("Sampler: Euler,",)),
        ({"scheduler": "SGM Uniform"}, ("Schedule type: SGM Uniform",)),
        ({"scheduler": "karras"}, ("Schedule type: Karras",)),
        ({"sampler_name": "DDIM", "eta": 1.0}, ("Sampler: DDIM",)),
        ({"subseed": 5, "subseed_strength": 0.5}, ("Variation seed: 5",)),
        ({"seed_resize_from_w": 32, "seed_resize_from_h": 32}, ("Seed resize from: 32x32",)),
        ({"enable_hr": True, "hr_scale": 2}, ("Hires",)),
        ({"enable_hr": True, "hr_checkpoint_name": "first"}, ("Hires",)),
        ({"tiling": True}, ("Tiling: True",)),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, ("Clip skip: 2",)),
        ({"override_settings": {"sd_model_checkpoint": "second"}}, ("Model: second",)),
        ({"width": 77, "height": 70}, ("Size: 72x64",)),
        ({"cfg_scale": 7.3}, ("CFG scale: 7.3",)),
    ],
)
def test_wishes(api: webuiapi.WebUIApi, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    size = {"width": 64, "height": 64} | changes
    drawn = api.txt2img(prompt="x", steps=2, seed=1, **size)
    infotext = drawn.image.info["parameters"]
    assert [word for word in words if word not in infotext] == []
    assert "images" in drawn.json


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"sampler_name": "Nobody's"}, 400, "DPM++ 2M"),
        ({"scheduler": "nobody's"}, 400, "Karras"),
        ({"steps": 1001}, 400, "steps"),
        ({"width": 16384, "height": 16384}, 400, "max_pixels"),
        ({"batch_size": 64, "n_iter": 64}, 400, "max_"),
        ({"enable_hr": True, "hr_upscaler": "Nobody's"}, 400, "hr_upscaler"),
        ({"override_settings": {"sd_model_checkpoint": "nobody's"}}, 404, "model_not_found"),
        ({"override_settings": {"sd_vae": "nobody's"}}, 400, "sd_vae"),
        ({"enable_hr": True, "hr_checkpoint_name": "second"}, 400, "hr_checkpoint_name"),
        ({"restore_faces": True}, 400, "restore_faces"),
        ({"script_name": "X/Y/Z plot"}, 422, "script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, 422, "ADetailer"),
    ],
)
def test_refusals(api: webuiapi.WebUIApi, changes: dict[str, Any], status: int, word: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        api.txt2img(prompt="x", **changes)
    found, text = caught.value.args
    assert found == status
    assert word in text
    assert list(json.loads(text)["error"]) == ["code", "message", "details"]


def test_img2img_and_inpainting(api: webuiapi.WebUIApi) -> None:
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    kept = api.img2img([red], prompt="x", steps=5, denoising_strength=0, width=64, height=64)
    assert kept.image.convert("RGB").getpixel((32, 32)) == pytest.approx((255, 0, 0), abs=16)
    assert kept.parameters["init_images"] is None
    drawn = api.img2img([red], prompt="x", steps=5, denoising_strength=0.9, width=64, height=64)
    assert drawn.json["images"] != kept.json["images"]
    assert "Denoising strength: 0.9" in drawn.info["infotexts"][0]
    mask = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((32, 0, 63, 63), fill=255)
    masked = api.img2img(
        [red],
        mask_image=mask,
        mask_blur=0,
        prompt="x",
        steps=5,
        inpainting_fill=1,
        inpaint_full_res=False,
        denoising_strength=1.0,
        width=64,
        height=64,
        seed=3,
    )
    result = masked.image.convert("RGB")
    assert all(result.getpixel((x, y)) == (255, 0, 0) for x in range(32) for y in range(64))
    assert any(result.getpixel((x, y)) != (255, 0, 0) for x in range(32, 64) for y in range(64))
    several = api.img2img([red, mask.convert("RGB")], prompt="x", steps=2, batch_size=2)
    assert len(several.images) == 2
    included = api.img2img([red], prompt="x", steps=1, include_init_images=True)
    assert included.parameters["init_images"] == [webuiapi.b64_img(red)]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("http://127.0.0.1:1/x.png", "not fetched"),
        (base64.b64encode(b"not an image").decode(), "PNG, JPEG or WebP"),
        (base64.b64encode(png(Image.new("L", (9, 9)))[:40]).decode(), ""),
    ],
)
def test_what_is_no_image(http: httpx.Client, image: str, word: str) -> None:
    answer = http.post("/sdapi/v1/img2img", json={"prompt": "x", "init_images": [image]})
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]
    assert answer.json()["error"]["details"] == "The field at fault is 'init_images[0]'."


def test_png_info(api: webuiapi.WebUIApi, http: httpx.Client) -> None:
    drawn = api.txt2img(prompt="a cat, on: a mat", steps=3, seed=7, width=64, height=64)
    told = api.png_info(drawn.image)
    assert told.info == drawn.info["infotexts"][0]
    assert told.json["items"]["parameters"] == told.info
    assert told.parameters["Seed"] == "7"
    # What it tells draws the same again.
    body = {"infotext": told.info}
    again = http.post("/sdapi/v1/txt2img", json=body).json()
    assert again["images"] == drawn.json["images"]
    plain = api.png_info(Image.new("RGB", (8, 8)))
    assert (plain.info, plain.parameters) == ("", {})


@pytest.mark.parametrize(
    "body",
    [
        {"enable_hr": True, "hr_scale": 2, "hr_cfg": 3.5, "cfg_scale": 5},
        {"inpainting_fill": 1, "inpaint_full_res": False, "mask_blur": 2},
        {"inpainting_fill": 2, "inpaint_full_res": True, "inpainting_mask_invert": 1},
    ],
)
def test_an_infotext_draws_the_same_again(http: httpx.Client, body: dict[str, Any]) -> None:
    """Also where the options have changed meanwhile."""
    path, pictures = "/sdapi/v1/txt2img", {}
    if "enable_hr" not in body:
        mask = Image.new("L", (64, 64), 0)
        ImageDraw.Draw(mask).rectangle((20, 30, 50, 60), fill=255)
        files = {"mask": png(mask), "init_images": png(Image.new("RGB", (64, 64), (255, 0, 0)))}
        encoded = {name: base64.b64encode(file).decode() for name, file in files.items()}
        path = "/sdapi/v1/img2img"
        pictures = encoded | {"init_images": [encoded["init_images"]]}
    asked = {"prompt": "x", "steps": 3, "seed": 9, "width": 64, "height": 64, **body}
    drawn = http.post(path, json=asked | pictures).json()
    infotext = json.loads(drawn["info"])["infotexts"][0]
    assert ("Hires CFG Scale: 3.5" in infotext) is ("hr_cfg" in body)
    http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 2})
    try:
        again = http.post(path, json={"infotext": infotext, **pictures}).json()
    finally:
        http.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})
    assert json.loads(again["info"])["infotexts"] == [infotext]
    assert again["images"] == drawn["images"]


def test_options_and_models(api: webuiapi.WebUIApi) -> None:
    models = api.get_sd_models()
    assert sorted(model["model_name"] for model in models) == ["first", "second"]
    titles = {model["model_name"]: model["title"] for model in models}
    assert api.util_get_model_names() == sorted(titles.values())
    try:
        assert api.set_options({"sd_model_checkpoint": titles["second"]}) is None
        assert api.util_get_current_model() == titles["second"]
        drawn = api.txt2img(prompt="x", steps=1, width=64, height=64)
        assert drawn.info["sd_model_name"] == "second"
        options = api.get_options()
        options["CLIP_stop_at_last_layers"] = 2
        assert api.set_options(options) is None
        assert api.get_options() == options
        drawn = api.txt2img(prompt="x", steps=1, width=64, height=64)
        assert drawn.info["clip_skip"] == 2
        api.util_set_model("first")
        assert api.util_get_current_model() == titles["first"]
        refused = api.set_options({"sd_model_checkpoint": "nobody's"})
        assert refused["error"]["code"] == "model_not_found"
    finally:
        api.set_options({"sd_model_checkpoint": titles["first"], "CLIP_stop_at_last_layers": 1})


def test_lists(api: webuiapi.WebUIApi) -> None:
    names = api.util_get_sampler_names()
    assert {"Euler a", "DPM++ 2M", "DDIM"} <= set(names)
    assert "karras" in api.util_get_scheduler_names()
    aliases = [alias for sampler in api.get_samplers() for alias in sampler["aliases"]]
    assert "k_euler_a" in aliases
    assert api.get_scripts() == {"txt2img": [], "img2img": []}
    for get in (
        *(api.get_upscalers, api.get_latent_upscale_modes, api.get_sd_vae, api.get_loras),
        *(api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models),
        api.get_prompt_styles,
    ):
        assert isinstance(get(), list)
    upscalers = [*api.get_upscalers(), *api.get_latent_upscale_modes()]
    assert {"Latent", "Lanczos"} <= {upscaler["name"] for upscaler in upscalers}
    for upscaler in upscalers:
        size = {"width": 64, "height": 64, "steps": 1}
        api.txt2img(prompt="x", enable_hr=True, hr_upscaler=upscaler["name"], **size)
    assert api.get_embeddings() == {"loaded": {}, "skipped": {}}
    assert api.get_cmd_flags() == {}
    assert api.get_memory()["ram"]["total"] > 0
    assert api.refresh_checkpoints() is None


def test_progress_interrupt_and_wait(api: webuiapi.WebUIApi, other: webuiapi.WebUIApi) -> None:
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"]) == (0.0, 0)
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(api.txt2img, prompt="long", **LONG)
        seen = _seen(api, lambda progress: progress["current_image"] is not None)
        assert 0 < seen["progress"] < 1
        assert seen["state"]["job_count"] == 64
        assert seen["state"]["sampling_steps"] == 150
        assert seen["current_task"] == seen["state"]["job"]
        with Image.open(io.BytesIO(base64.b64decode(seen["current_image"]))) as preview:
            assert preview.width <= 2048
        # Nobody else sees it, or ends it.
        assert other.get_progress()["state"]["job_count"] == 0
        other.interrupt()
        assert not drawing.done()
        assert api.skip() is None
        assert api.interrupt() == {}
        drawn = drawing.result(_WAIT_S)
    assert 1 <= len(drawn.images) < 64
    assert drawn.info["all_seeds"] == [
        drawn.info["seed"] + number for number in range(len(drawn.images))
    ]
    api.util_wait_for_ready(check_interval=0.1)
    assert api.get_progress()["progress"] == 0


def test_a_job_has_the_id_that_its_client_chose(
    platform: WebuiPlatform, http: httpx.Client, api: Any
) -> None:
    body = {"prompt": "long", "force_task_id": "task(abc)", **LONG}
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(http.post, "/sdapi/v1/txt2img", json=body)
        assert _seen(api, lambda progress: True)["current_task"] == "task(abc)"
        told = _task(http, "task(abc)")
        assert (told["active"], told["completed"]) == (True, False)
        assert 0 < told["progress"] < 1
        assert not _task(http, "task(other)")["active"]
        theirs = {"authorization": f"Bearer {platform.tokens[1]}"}
        assert not _task(http, "task(abc)", headers=theirs)["active"], "it is not their job"
        answer = httpx.post(
            f"{http.base_url}/sdapi/v1/txt2img", json=body, headers=http.headers, timeout=_WAIT_S
        )
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "conflict"
        api.interrupt()
        assert drawing.result(_WAIT_S).status_code == 200
    told = _task(http, "task(abc)")
    assert (told["active"], told["completed"]) == (False, True)
    answer = http.post("/sdapi/v1/txt2img", json={"prompt": "x", "force_task_id": "a b"})
    assert answer.status_code == 400
    assert "force_task_id" in answer.json()["error"]["details"]


def test_a_client_that_leaves_ends_its_job(platform: WebuiPlatform, api: Any) -> None:
    body = json.dumps({"prompt": "long", **LONG}).encode()
    head = (
        f"POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: edge\r\n"
        f"Authorization: Bearer {platform.tokens[0]}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((platform.host, platform.port)) as connection:
        connection.sendall(head.encode() + body)
        _seen(api, lambda progress: True)
    api.util_wait_for_ready(check_interval=0.1)


def test_generate_image(http: httpx.Client) -> None:
    answer = http.post("/generate-image", json={"prompt": "a cat", "seed": 3, "width": 64})
    body = answer.json()
    with Image.open(io.BytesIO(base64.b64decode(body["image_base64"]))) as image:
        assert image.size == (64, 512)
        text = image.info["parameters"]
    for word in ("Steps: 20", "Sampler: DPM++ 2M,", "Schedule type: Karras", "CFG scale: 7,"):
        assert word in text
    assert json.loads(body["info"])["seed"] == 3


def test_formats(http: httpx.Client) -> None:
    for name, format_ in (("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")):
        body = {
            "prompt": "x",
            "steps": 1,
            "width": 64,
            "height": 64,
            "override_settings": {"samples_format": name, "jpeg_quality": 60},
        }
        answer = http.post("/sdapi/v1/txt2img", json=body).json()
        with Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))) as image:
            assert image.format == format_


def test_eight_clients_get_their_own(http: httpx.Client, platform: WebuiPlatform) -> None:
    def draw(seed: int) -> str:
        body = {"prompt": f"cat {seed}", "seed": seed, "steps": 10, "width": 128, "height": 128}
        headers = {"authorization": f"Bearer {platform.tokens[seed % 2]}"}
        url = f"{http.base_url}/sdapi/v1/txt2img"
        answer = httpx.post(url, json=body, headers=headers, timeout=_WAIT_S).json()
        assert answer["parameters"]["seed"] == seed
        return answer["images"][0]

    alone = [draw(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(draw, range(8))) == alone
    assert len(set(alone)) == 8


def test_a_killed_service_is_told_and_heals(
    http: httpx.Client, platform: WebuiPlatform, api: Any
) -> None:
    with ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(http.post, "/sdapi/v1/txt2img", json={"prompt": "long", **LONG})
        _seen(api, lambda progress: True)
        asyncio.run(platform.processes.kill("image"))
        answer = drawing.result(_WAIT_S)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "internal_error"
    assert int(answer.headers["retry-after"]) > 0
    asyncio.run(platform.processes.start("image"))
    until_served(str(http.base_url), platform.tokens[0])
    drawn = api.txt2img(prompt="x", steps=1, width=64, height=64)
    assert len(drawn.images) == 1


def _task(http: httpx.Client, name: str, **more: Any) -> dict[str, Any]:
    """What is told of a job, by its ID."""
    return http.post("/internal/progress", json={"id_task": name}, **more).json()


def _seen(api: webuiapi.WebUIApi, wanted: Any) -> dict[str, Any]:
    """The first progress of a job that is wanted, while it is drawn."""
    while True:
        progress = api.get_progress()
        if progress["state"]["sampling_step"] > 0 and wanted(progress):
            return progress

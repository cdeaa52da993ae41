"""Requests of the WebUI's API become requests of the image service."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from penstock.image.v1 import image_pb2, sampler_pb2

from gateway.dialects.webui import translate
from gateway.dialects.webui.drawings import effective
from gateway.dialects.webui.schema import GenerateImageRequest, Img2ImgRequest, Txt2ImgRequest
from gateway.errors import ProblemError
from gateway.validation import decode

FILE = b"a file"
INIT = base64.b64encode(FILE).decode()
NOW = sampler_pb2.Options()

# What webuiapi 0.9.17 sends each time.
COMMON: dict[str, Any] = {
    "prompt": "",
    "styles": [],
    "seed": -1,
    "subseed": -1,
    "subseed_strength": 0.0,
    "seed_resize_from_h": 0,
    "seed_resize_from_w": 0,
    "batch_size": 1,
    "n_iter": 1,
    "steps": 20,
    "cfg_scale": 7.0,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "tiling": False,
    "do_not_save_samples": False,
    "do_not_save_grid": False,
    "negative_prompt": "",
    "eta": 1.0,
    "s_churn": 0,
    "s_tmax": 0,
    "s_tmin": 0,
    "s_noise": 1,
    "override_settings": {},
    "override_settings_restore_afterwards": True,
    "sampler_name": "Euler a",
    "scheduler": "automatic",
    "sampler_index": "Euler a",
    "script_name": None,
    "script_args": [],
    "send_images": True,
    "save_images": False,
    "alwayson_scripts": {},
}
TXT = COMMON | {
    "enable_hr": False,
    "hr_scale": 2,
    "hr_upscaler": "Latent",
    "hr_second_pass_steps": 0,
    "hr_resize_x": 0,
    "hr_resize_y": 0,
    "hr_checkpoint_name": None,
    "hr_sampler_name": None,
    "hr_scheduler": None,
    "hr_prompt": "",
    "hr_negative_prompt": "",
    "denoising_strength": 0.7,
    "firstphase_width": 0,
    "firstphase_height": 0,
}
IMG = COMMON | {
    "init_images": ["data:image/png;base64," + INIT],
    "resize_mode": 0,
    "denoising_strength": 0.75,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1,
    "image_cfg_scale": 1.5,
    "include_init_images": False,
}


def request_of(body: dict[str, Any], kind: Any = Txt2ImgRequest) -> image_pb2.ImageRequest:
    decoded = decode(msgspec.json.Decoder(kind), json.dumps(body).encode())
    request, wishes = translate.to_image_request(translate.filled(decoded))
    translate.take_options(request, wishes, NOW, ())
    return request


def as_json(request: image_pb2.ImageRequest) -> dict[str, Any]:
    return json_format.MessageToDict(request, preserving_proto_field_name=True)


def refused(body: dict[str, Any], kind: Any = Txt2ImgRequest) -> tuple[str | None, int]:
    with pytest.raises(ProblemError) as caught:
        request_of(body, kind)
    problem = caught.value.problem
    assert problem.param is None or problem.param.partition("[")[0] in problem.message
    return problem.param, problem.status


def taken_or_refused(body: dict[str, Any], kind: Any = Txt2ImgRequest) -> None:
    try:
        request_of(body, kind).SerializeToString()
    except ProblemError as error:
        problem = error.problem
    else:
        return
    assert problem.status in (400, 422)
    assert problem.param is not None


PLAIN = {
    "width": 512,
    "height": 512,
    "steps": 20,
    "cfg_scale": 7.0,
    "sampler": "Euler a",
    "scheduler": "automatic",
    "seed": "-1",
    "batch_size": 1,
    "batch_count": 1,
    "sampler_tuning": {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 0.0, "s_noise": 1.0},
    "preview_interval_steps": 10,
    "prompt_syntax": "PROMPT_SYNTAX_WEIGHTED",
}


def test_what_webuiapi_sends_each_time() -> None:
    assert as_json(request_of(TXT)) == PLAIN
    tuning = PLAIN["sampler_tuning"] | {"initial_noise_multiplier": 1.0}  # type: ignore[operator]
    assert as_json(request_of(IMG, Img2ImgRequest)) == PLAIN | {
        "init_images": [INIT],
        "denoising_strength": 0.75,
        "resize_mode": "RESIZE_MODE_STRETCH",
        "sampler_tuning": tuning,
    }


def test_defaults_are_velesios() -> None:
    request = request_of({"prompt": "x"})
    assert (request.steps, request.cfg_scale, request.sampler) == (20, 7.5, "Euler a")
    assert (request.width, request.height) == (512, 512)
    assert request_of(dict.fromkeys(TXT) | {"prompt": "x"}) == request
    image = {"init_images": [INIT]}
    request = request_of({"prompt": "x", **image}, Img2ImgRequest)
    assert (request.steps, request.cfg_scale, request.denoising_strength) == (20, 7.5, 0.75)
    assert request_of(dict.fromkeys(IMG) | {"prompt": "x", **image}, Img2ImgRequest) == request
    body = translate.from_generate_image(GenerateImageRequest(prompt="x"))
    request, _ = translate.to_image_request(body)
    assert (request.steps, request.cfg_scale, request.sampler) == (20, 7.0, "DPM++ 2M Karras")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"width": 519, "height": 15}, {"width": 512, "height": 8}),
        ({"sampler_name": None, "sampler_index": "Heun"}, {"sampler": "Heun"}),
        ({"sampler_name": "LMS", "sampler_index": "Heun"}, {"sampler": "LMS"}),
        ({"seed": 2**53 - 1}, {"seed": str(2**53 - 1)}),
        ({"subseed": 7, "subseed_strength": 0}, {"variation": None}),
        (
            {"subseed": 7, "subseed_strength": 0.5},
            {
                "variation": {
                    "subseed": "7",
                    "strength": 0.5,
                    "seed_width": 0,
                    "seed_height": 0,
                }
            },
        ),
        (
            {"seed_resize_from_w": 64, "seed_resize_from_h": -1},
            {
                "variation": {
                    "subseed": "-1",
                    "strength": 0.0,
                    "seed_width": 64,
                    "seed_height": 0,
                }
            },
        ),
        ({"tiling": True}, {"tiling": True}),
        ({"force_task_id": "task(abc)"}, {"job_id": "task(abc)"}),
        ({"n_iter": 3, "batch_size": 2}, {"batch_count": 3, "batch_size": 2}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, {"clip_skip": 2}),
        ({"override_settings": {"sd_vae": "Automatic"}}, {"vae": None}),
        ({"override_settings": {"sd_vae": "other"}}, {"vae": "other"}),
        ({"override_settings": {"sd_model_checkpoint": "m"}}, {"model": "m"}),
        (
            {"override_settings": {"samples_format": "jpg", "jpeg_quality": 80}},
            {"output_format": "OUTPUT_FORMAT_JPEG", "quality": 80},
        ),
        ({"override_settings": {"jpeg_quality": 80}}, {"quality": None}),
        (
            {"override_settings": {"show_progress_every_n_steps": 3}},
            {"preview_interval_steps": 3},
        ),
        (
            {"override_settings": {"show_progress_every_n_steps": -1}},
            {"preview_interval_steps": 0},
        ),
        ({"override_settings": {"live_previews_enable": False}}, {"preview_interval_steps": 0}),
        ({"override_settings": {"samples_save": False, "s_noise": 1}}, {}),
        ({"refiner_switch_at": 0.8, "refiner_checkpoint": "None"}, {}),
        ({"alwayson_scripts": {"ControlNet": {"args": []}, "x": None, "y": {}}}, {}),
        ({"script_args": [1, 2]}, {}),
        ({"hr_scale": 3, "hr_checkpoint_name": "x"}, {}),
        ({"prompt": "<lora:x:1>", "disable_extra_networks": True}, {}),
        ({"prompt": "a < b : c > d, (x:1.2)"}, {}),
    ],
)
def test_fields(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    found = as_json(request_of(TXT | changes))
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("sampler", "eta", "expected"),
    [
        ("Euler", 1.0, None),
        ("Euler a", 1.0, None),
        ("Euler a", 0.5, 0.5),
        ("DDIM", 1.0, 1.0),
        ("ddim", 0.0, 0.0),
        ("Heun", None, None),
    ],
)
def test_eta(sampler: str, eta: float | None, expected: float | None) -> None:
    tuning = request_of({"prompt": "x", "sampler_name": sampler, "eta": eta}).sampler_tuning
    assert (tuning.eta if tuning.HasField("eta") else None) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"scale": 2.0, "denoising_strength": 0.75}),
        ({"hr_scale": 1.5, "denoising_strength": 0.5}, {"scale": 1.5, "denoising_strength": 0.5}),
        ({"hr_resize_x": 1030, "hr_resize_y": 777}, {"width": 1024, "height": 776, "scale": None}),
        ({"hr_resize_x": 1024}, {"width": 1024, "height": 512}),
        ({"hr_resize_y": 1024}, {"width": 2048, "height": 1024}),
        ({"hr_sampler_name": "Heun"}, {"sampler": "Heun"}),
        ({"hr_sampler_name": "Use same sampler"}, {"sampler": ""}),
        ({"hr_scheduler": "Use same scheduler"}, {"scheduler": ""}),
        ({"hr_prompt": "y", "hr_negative_prompt": "z"}, {"prompt": "y", "negative_prompt": "z"}),
        ({"hr_upscaler": "Lanczos", "hr_second_pass_steps": 7}, {"upscaler": "Lanczos"}),
        ({"hr_cfg": 3.5}, {"cfg_scale": 3.5}),
        ({"hr_checkpoint_name": ""}, {"scale": 2.0}),
        ({"hr_checkpoint_name": "None"}, {"scale": 2.0}),
        ({"hr_checkpoint_name": "Use same checkpoint"}, {"scale": 2.0}),
    ],
)
def test_hires(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    body = {"prompt": "x", "enable_hr": True, "width": 512, "height": 256} | changes
    hires = request_of(body).hires
    found = {
        name: getattr(hires, name) if name != "scale" or hires.HasField("scale") else None
        for name in expected
    }
    assert found == pytest.approx(expected)


CHECKPOINTS = [
    sampler_pb2.Checkpoint(model=model, title=f"{model}.safetensors", loaded=model == "two")
    for model in ("one", "two")
]


@pytest.mark.parametrize(
    ("first", "options", "second", "passes"),
    [
        (None, "one", "one.safetensors", True),
        (None, "one", "two", False),
        (None, "", "two", True),  # the one that is loaded
        (None, "", "one", False),
        ("two", "one", "two.safetensors", True),
        ("two", "one", "one", False),
        (None, "one", "nobody's", False),
        ("nobody's", "one", "nobody's", False),
    ],
)
def test_one_checkpoint_draws_both_passes(
    first: str | None, options: str, second: str, *, passes: bool
) -> None:
    body = Txt2ImgRequest(prompt="x", enable_hr=True, hr_checkpoint_name=second)
    if first is not None:
        body.override_settings = {"sd_model_checkpoint": first}
    request, wishes = translate.to_image_request(body)
    now = sampler_pb2.Options(model=options)
    if passes:
        translate.take_options(request, wishes, now, CHECKPOINTS)
        return
    with pytest.raises(ProblemError) as caught:
        translate.take_options(request, wishes, now, CHECKPOINTS)
    problem = caught.value.problem
    assert (problem.param, problem.status) == ("hr_checkpoint_name", 400)
    assert "'hr_checkpoint_name'" in problem.message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"blur_pixels": 4, "full_resolution": True, "padding_pixels": 0}),
        ({"inpainting_fill": 0}, {"fill": image_pb2.Inpainting.FILL_SURROUNDINGS}),
        ({"inpainting_fill": 1}, {"fill": image_pb2.Inpainting.FILL_ORIGINAL}),
        ({"inpainting_fill": 2}, {"fill": image_pb2.Inpainting.FILL_LATENT_NOISE}),
        ({"inpainting_fill": 3}, {"fill": image_pb2.Inpainting.FILL_LATENT_NOTHING}),
        ({"inpainting_mask_invert": 1}, {"invert_mask": True}),
        ({"inpaint_full_res": False}, {"full_resolution": False}),
        ({"mask_blur": 0}, {"blur_pixels": 0}),
        ({"mask_blur": 8, "mask_blur_x": 4, "mask_blur_y": 8}, {"blur_pixels": 8}),
        ({"mask_blur_x": 6, "mask_blur_y": 6}, {"blur_pixels": 6}),
        ({"inpaint_full_res_padding": 32}, {"padding_pixels": 32}),
    ],
)
def test_masks(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    body = {"prompt": "x", "init_images": [INIT], "mask": INIT} | changes
    inpainting = request_of(body, Img2ImgRequest).inpainting
    assert inpainting.mask == FILE
    assert {name: getattr(inpainting, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"restore_faces": True}, "restore_faces"),
        ({"styles": ["anime"]}, "styles"),
        ({"save_images": True}, "save_images"),
        ({"refiner_checkpoint": "m"}, "refiner_checkpoint"),
        ({"firstphase_width": 64}, "firstphase_width"),
        ({"firstpass_image": "x"}, "firstpass_image"),
        ({"prompt": "a <lora:x:1> b"}, "prompt"),
        ({"negative_prompt": "<HYPERNET:x>"}, "negative_prompt"),
        ({"override_settings": {"x": 1}}, "override_settings.x"),
        (
            {"override_settings": {"CLIP_stop_at_last_layers": "2"}},
            "override_settings.CLIP_stop_at_last_layers",
        ),
        (
            {"override_settings": {"CLIP_stop_at_last_layers": 0}},
            "override_settings.CLIP_stop_at_last_layers",
        ),
        ({"override_settings": {"samples_format": "gif"}}, "override_settings.samples_format"),
        ({"override_settings": {"s_noise": 1.1}}, "override_settings.s_noise"),
        ({"override_settings": {"samples_save": 0}}, "override_settings.samples_save"),
        (
            {
                "override_settings": {"sd_vae": "x"},
                "override_settings_restore_afterwards": False,
            },
            "override_settings_restore_afterwards",
        ),
        ({"width": "512"}, "width"),
        ({"width": 7}, "width"),
        ({"width": True}, "width"),
        ({"steps": 0}, "steps"),
        ({"steps": 20.5}, "steps"),
        ({"cfg_scale": "7"}, "cfg_scale"),
        ({"seed": -2}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_iter": 10**9}, "n_iter"),
        ({"styles": "anime"}, "styles"),
        ({"infotext": "x\nSteps: 99999, Seed: 1, Size: 8x8"}, "infotext"),
        ({"infotext": "x\nSteps: many, Seed: 1, Size: 8x8", "steps": None}, "infotext"),
    ],
)
def test_refusals(changes: dict[str, Any], param: str) -> None:
    assert refused(TXT | changes) == (param, 400)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"init_images": None}, "init_images"),
        ({"init_images": []}, "init_images"),
        ({"init_images": [INIT, "http://x/y.png"]}, "init_images[1]"),
        ({"init_images": ["file:///etc/passwd"]}, "init_images[0]"),
        ({"init_images": ["not base64!"]}, "init_images[0]"),
        ({"init_images": [""]}, "init_images[0]"),
        ({"init_images": INIT}, "init_images"),
        ({"mask": "https://x/y.png"}, "mask"),
        ({"mask": INIT, "mask_blur": 8, "mask_blur_x": 9}, "mask_blur_x"),
        ({"mask": INIT, "mask_blur": None, "mask_blur_x": 9}, "mask_blur_y"),
        ({"latent_mask": INIT}, "latent_mask"),
        ({"mask_round": False}, "mask_round"),
        ({"image_cfg_scale": 2.0}, "image_cfg_scale"),
        ({"resize_mode": 4}, "resize_mode"),
        ({"inpainting_fill": -1}, "inpainting_fill"),
        ({"denoising_strength": 1.1}, "denoising_strength"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_refusals_of_images(changes: dict[str, Any], param: str) -> None:
    assert refused(IMG | changes, Img2ImgRequest) == (param, 400)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"script_name": "X/Y/Z plot"}, "script_name"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "alwayson_scripts"),
        ({"alwayson_scripts": {"ControlNet": [1]}}, "alwayson_scripts"),
    ],
)
def test_scripts_are_unknown(changes: dict[str, Any], param: str) -> None:
    assert refused(TXT | changes) == (param, 422)


INFOTEXT = """a cat, sitting: well
on a mat
Negative prompt: dog
bird
Steps: 12, Sampler: Heun, Schedule type: Karras, CFG scale: 6.5, Seed: 99, Size: 256x128, \
Model hash: 0123456789, Model: starter, Clip skip: 2, Tiling: True, Lora hashes: "a: 1, b: 2", \
Hires upscale: 1.5, Hires prompt: "more, \\"light\\": here", Denoising strength: 0.4, Version: v1"""


def test_an_infotext_fills_what_is_open() -> None:
    request = request_of({"infotext": INFOTEXT, "steps": 5, "tiling": None, "hr_scale": 3.0})
    assert request.prompt == "a cat, sitting: well\non a mat"
    assert request.negative_prompt == "dog\nbird"
    assert (request.steps, request.sampler, request.scheduler) == (5, "Heun", "Karras")
    assert (request.cfg_scale, request.seed) == (6.5, 99)
    assert (request.width, request.height) == (256, 128)
    assert (request.clip_skip, request.tiling) == (2, True)
    assert (request.hires.scale, request.hires.prompt) == (3.0, 'more, "light": here')
    assert request.hires.denoising_strength == pytest.approx(0.4)
    assert request.model == "starter [0123456789]"
    settings = {"CLIP_stop_at_last_layers": 1}
    request = request_of({"infotext": INFOTEXT, "override_settings": settings})
    assert (request.clip_skip, request.model) == (1, "starter [0123456789]")


def test_an_infotext_of_an_image() -> None:
    infotext = (
        "x\nSteps: 5, Seed: 1, Mask blur: 9, Masked content: latent noise, Inpaint area: "
        "Whole picture, Mask mode: Inpaint not masked, Noise multiplier: 0.9, Eta: 0.5"
    )
    body = {"infotext": infotext, "init_images": [INIT], "mask": INIT}
    request = request_of(body, Img2ImgRequest)
    assert request.inpainting.blur_pixels == 9
    assert request.inpainting.fill == image_pb2.Inpainting.FILL_LATENT_NOISE
    assert request.inpainting.full_resolution is False
    assert request.inpainting.invert_mask is True
    assert request.sampler_tuning.initial_noise_multiplier == pytest.approx(0.9)
    assert request.sampler_tuning.eta == 0.5


def test_words_without_entries_are_a_prompt() -> None:
    assert request_of({"infotext": "one: two, three"}).prompt == "one: two, three"
    assert refused({"infotext": "Steps: 5, Seed: 1, Size: 8x8"}) == ("prompt", 400)


@given(st.text(alphabet='ab:,"\\\n 0x', max_size=60), st.text(max_size=40))
def test_any_infotext_is_read_or_refused(text: str, more: str) -> None:
    for infotext in (text, f"{text}\nSteps: {more}, Seed: {text}, Size: {more}, {text}"):
        taken_or_refused({"prompt": "x", "infotext": infotext})


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=10),
    st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=8), st.integers(), max_size=3),
)


@pytest.mark.parametrize(("kind", "body"), [(Txt2ImgRequest, TXT), (Img2ImgRequest, IMG)])
def test_any_value_is_taken_or_refused(kind: Any, body: dict[str, Any]) -> None:
    @given(st.dictionaries(st.sampled_from(sorted(body)), VALUES, min_size=1, max_size=3))
    def check(changes: dict[str, Any]) -> None:
        taken_or_refused(body | changes, kind)

    check()


def test_parameters_are_what_was_drawn_with() -> None:
    body = Txt2ImgRequest(prompt="x", cfg_scale=7.3, subseed=5, infotext="i")
    request = request_of({"prompt": "x", "cfg_scale": 7.3})
    request.seed, request.scheduler = 77, "karras"
    told = effective(body, request)
    assert (told.seed, told.scheduler, told.cfg_scale, told.subseed) == (77, "karras", 7.3, 5)
    assert (told.steps, told.width, told.sampler_name) == (20, 512, "Euler a")
    # They may be sent again.
    again = request_of(json.loads(msgspec.json.encode(told)))
    assert (again.seed, again.scheduler, again.cfg_scale) == (77, "karras", request.cfg_scale)
    image = Img2ImgRequest(prompt="x", init_images=[INIT], mask=INIT)
    shown = effective(image, request_of({"prompt": "x", "init_images": [INIT]}, Img2ImgRequest))
    assert (shown.init_images, shown.mask, shown.denoising_strength) == (None, None, 0.75)
    assert (shown.mask_blur, shown.inpaint_full_res) == (0, False)  # as the service says

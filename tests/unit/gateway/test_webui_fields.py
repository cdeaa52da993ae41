"""No field of a request to draw is ignored: each changes what is asked for, is refused, or is told
here to be without effect, with the reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from penstock.image.v1 import sampler_pb2

from gateway.dialects.webui import schema, translate
from gateway.dialects.webui.drawings import effective
from gateway.errors import ProblemError
from gateway.validation import decode

IMAGE, OTHER = (base64.b64encode(data).decode() for data in (b"an image", b"another"))
INFOTEXT = "y\nSteps: 7, Seed: 5, Size: 64x64"
KINDS = {
    "txt2img": (schema.Txt2ImgRequest, {"prompt": "x"}),
    "img2img": (schema.Img2ImgRequest, {"prompt": "x", "init_images": [IMAGE]}),
    "generate-image": (schema.GenerateImageRequest, {"prompt": "x"}),
}
HIRES: dict[str, Any] = {"enable_hr": True}
MASKED: dict[str, Any] = {"mask": IMAGE}
VARIED: dict[str, Any] = {"subseed_strength": 0.5}

VALUES: dict[str, Any] = {
    "prompt": "y",
    "negative_prompt": "y",
    "styles": ["a style"],
    "seed": 5,
    "subseed": 5,
    "subseed_strength": 0.5,
    "seed_resize_from_h": 64,
    "seed_resize_from_w": 64,
    "sampler_name": "Heun",
    "sampler_index": "Heun",
    "scheduler": "karras",
    "batch_size": 2,
    "n_iter": 2,
    "steps": 7,
    "cfg_scale": 3.0,
    "width": 64,
    "height": 64,
    "restore_faces": True,
    "tiling": True,
    "do_not_save_samples": True,
    "do_not_save_grid": True,
    "eta": 0.5,
    "denoising_strength": 0.5,
    "s_min_uncond": 0.5,
    "s_churn": 0.5,
    "s_tmax": 0.5,
    "s_tmin": 0.5,
    "s_noise": 0.5,
    "override_settings": {"CLIP_stop_at_last_layers": 2},
    "override_settings_restore_afterwards": False,
    "refiner_checkpoint": "a model",
    "refiner_switch_at": 0.5,
    "disable_extra_networks": True,
    "firstpass_image": IMAGE,
    "script_name": "a script",
    "script_args": [1],
    "save_images": True,
    "alwayson_scripts": {"a script": {"args": [1]}},
    "force_task_id": "task(1)",
    "infotext": INFOTEXT,
    "enable_hr": True,
    "firstphase_width": 64,
    "firstphase_height": 64,
    "hr_scale": 3.0,
    "hr_upscaler": "Lanczos",
    "hr_second_pass_steps": 7,
    "hr_resize_x": 1024,
    "hr_resize_y": 1024,
    "hr_checkpoint_name": "a model",
    "hr_sampler_name": "Heun",
    "hr_scheduler": "karras",
    "hr_cfg": 3.0,
    "hr_prompt": "y",
    "hr_negative_prompt": "y",
    "init_images": [OTHER],
    "resize_mode": 1,
    "image_cfg_scale": 3.0,
    "mask": OTHER,
    "mask_blur": 7,
    "mask_blur_x": 7,
    "mask_blur_y": 7,
    "mask_round": False,
    "inpainting_fill": 1,
    "inpaint_full_res": False,
    "inpaint_full_res_padding": 7,
    "inpainting_mask_invert": 1,
    "initial_noise_multiplier": 0.5,
    "latent_mask": IMAGE,
    "include_init_images": True,
}
"""Something else than what a field means when it is left out."""

NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("txt2img", "denoising_strength"): HIRES,
    ("txt2img", "subseed"): VARIED,
    ("img2img", "subseed"): VARIED,
    **{
        ("txt2img", name): HIRES
        for name in schema.Txt2ImgRequest.__struct_fields__
        if name.startswith("hr_")
    },
    **{
        ("img2img", name): MASKED
        for name in (
            *("mask_blur", "mask_blur_x", "mask_blur_y", "inpainting_fill", "inpaint_full_res"),
            *("inpaint_full_res_padding", "inpainting_mask_invert"),
        )
    },
}
"""What fields only say something about: without it they pass, and change nothing in the WebUI."""

WITH: dict[str, dict[str, Any]] = {
    "override_settings_restore_afterwards": {"override_settings": {"sd_vae": "a vae"}},
    "disable_extra_networks": {"prompt": "<lora:x:1>"},
    "infotext": {"prompt": None},
    "mask_blur_x": {"mask_blur": 4},
    "mask_blur_y": {"mask_blur": 4},
}
"""With what a field can be seen to matter."""

WITHOUT_EFFECT = {
    "do_not_save_samples": "nothing is kept here, whatever is said",
    "do_not_save_grid": "there are no grids",
    "refiner_switch_at": "there is no refiner: refiner_checkpoint is refused",
    "script_args": "there are no scripts: script_name is refused",
}
ELSEWHERE = {
    "send_images": "routes read it: test_images_are_left_out_on_request",
}


def outcome(kind: str, changes: dict[str, Any]) -> Any:
    """What is asked of the service and shown to the client; or the field that is refused."""
    struct, body = KINDS[kind]
    try:
        given = decode(msgspec.json.Decoder(struct), json.dumps(body | changes).encode())
        if isinstance(given, schema.GenerateImageRequest):
            given = translate.from_generate_image(given)
        given = translate.filled(given)
        request, wishes = translate.to_image_request(given)
        translate.take_options(request, wishes, sampler_pb2.Options(), ())
    except ProblemError as error:
        return error.problem.param
    told = effective(given, request)
    shown = told.init_images if isinstance(told, schema.Img2ImgRequest) else None
    return request, wishes, shown


FIELDS = [
    (kind, field) for kind, (struct, _) in KINDS.items() for field in struct.__struct_fields__
]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_no_field_is_ignored(kind: str, field: str) -> None:
    if field in ELSEWHERE:
        return
    context = NEEDS.get((kind, field), {}) | WITH.get(field, {})
    without = outcome(kind, context)
    found = outcome(kind, context | {field: VALUES[field]})
    if field in WITHOUT_EFFECT:
        assert found == without
        assert isinstance(found, tuple), "it passes"
    elif isinstance(found, str):
        assert found.partition("[")[0] == field
    else:
        assert found != without


@pytest.mark.parametrize(("kind", "field"), NEEDS)
def test_what_says_nothing_without_another_passes(kind: str, field: str) -> None:
    plain = outcome(kind, {})
    assert isinstance(plain, tuple)
    assert outcome(kind, {field: VALUES[field]}) == plain


def test_the_tables_name_fields_only() -> None:
    named = {field for _, field in FIELDS}
    assert VALUES.keys() | ELSEWHERE.keys() == named
    assert WITHOUT_EFFECT.keys() <= named

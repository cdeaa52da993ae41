"""Fields of the image service, spelled as the WebUI spells them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.dialects.webui.schema import DrawingFields, Txt2ImgRequest
from gateway.errors import Problem

_FIELDS: Mapping[str, str] = {
    "sampler": "sampler_name",
    "batch_count": "n_iter",
    "job_id": "force_task_id",
    "model": "override_settings.sd_model_checkpoint",
    "vae": "override_settings.sd_vae",
    "clip_skip": "override_settings.CLIP_stop_at_last_layers",
    "output_format": "override_settings.samples_format",
    "quality": "override_settings.jpeg_quality",
    "preview_interval_steps": "override_settings.show_progress_every_n_steps",
    "variation": "subseed_strength",
    "variation.subseed": "subseed",
    "variation.strength": "subseed_strength",
    "variation.seed_width": "seed_resize_from_w",
    "variation.seed_height": "seed_resize_from_h",
    "hires": "enable_hr",
    "hires.scale": "hr_scale",
    "hires.width": "hr_resize_x",
    "hires.height": "hr_resize_y",
    "hires.upscaler": "hr_upscaler",
    "hires.steps": "hr_second_pass_steps",
    "hires.denoising_strength": "denoising_strength",
    "hires.prompt": "hr_prompt",
    "hires.negative_prompt": "hr_negative_prompt",
    "hires.sampler": "hr_sampler_name",
    "hires.scheduler": "hr_scheduler",
    "hires.cfg_scale": "cfg_scale",
    "inpainting": "mask",
    "inpainting.mask": "mask",
    "inpainting.invert_mask": "inpainting_mask_invert",
    "inpainting.blur_pixels": "mask_blur",
    "inpainting.fill": "inpainting_fill",
    "inpainting.full_resolution": "inpaint_full_res",
    "inpainting.padding_pixels": "inpaint_full_res_padding",
}
_OPTIONS: Mapping[str, str] = {
    "model": "sd_model_checkpoint",
    "vae": "sd_vae",
    "clip_skip": "CLIP_stop_at_last_layers",
    "output_format": "samples_format",
    "preview_interval_steps": "show_progress_every_n_steps",
}

Spelling = Callable[[Problem], Problem]
"""Spells a problem's field as the request did."""


def drawing_spelling(body: DrawingFields) -> Spelling:
    """The spelling for one request to draw."""
    fields = dict(_FIELDS)
    if body.sampler_name is None and body.sampler_index is not None:
        fields["sampler"] = "sampler_index"
    if isinstance(body, Txt2ImgRequest) and body.hr_cfg is not None:
        fields["hires.cfg_scale"] = "hr_cfg"

    def spelled(problem: Problem) -> Problem:
        param = problem.param or ""
        return _renamed(problem, fields.get(param, param.removeprefix("sampler_tuning.")))

    return spelled


def option_spelling(problem: Problem) -> Problem:
    """Spells the field of a problem with options."""
    param = (problem.param or "").removeprefix("options.")
    return _renamed(problem, _OPTIONS.get(param, param))


def _renamed(problem: Problem, spelled: str) -> Problem:
    param = problem.param
    if not param or spelled == param:
        return problem
    word = re.escape(param)
    # A plain word may stand there for what it means: "there is no model 'x'".
    plain = param.isalpha()
    mention = re.compile(rf"(?<=['`]){word}(?=['`])" if plain else rf"(?<![\w.\[]){word}(?![\w\[])")
    message = mention.sub(lambda _: spelled, problem.message)
    return replace(problem, param=spelled, message=message)

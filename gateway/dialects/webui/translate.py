"""Requests to draw, translated into those of the image service. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from penstock.image.v1 import image_pb2, sampler_pb2

from gateway.dialects.webui import options
from gateway.dialects.webui.checkpoints import drawn_with, model_of
from gateway.dialects.webui.infotext import fields_of
from gateway.dialects.webui.options import Wishes, wishes_of
from gateway.dialects.webui.refusals import refuse_undone, unsupported
from gateway.dialects.webui.schema import (
    DrawingFields,
    GenerateImageRequest,
    Img2ImgRequest,
    Txt2ImgRequest,
)
from gateway.errors import ProblemError, invalid
from gateway.pictures import picture_bytes
from gateway.validation import decode, missing

Body = TypeVar("Body", bound=DrawingFields)

_SIDE = 512
_STEPS = 20
_CFG_SCALE = 7.5
_DENOISING_STRENGTH = 0.75
_SAMPLER = "Euler a"
_MASK_BLUR = 4
_HIRES_SCALE = 2.0
_MULTIPLE = 8

_SAMPLER_OF_GENERATE_IMAGE = "DPM++ 2M Karras"
_CFG_SCALE_OF_GENERATE_IMAGE = 7.0

_LOSSY = (image_pb2.OUTPUT_FORMAT_JPEG, image_pb2.OUTPUT_FORMAT_WEBP)
_RESIZE_MODES = (
    image_pb2.RESIZE_MODE_STRETCH,
    image_pb2.RESIZE_MODE_CROP,
    image_pb2.RESIZE_MODE_FILL,
    image_pb2.RESIZE_MODE_LATENT,
)
_FILLS = (
    image_pb2.Inpainting.FILL_SURROUNDINGS,
    image_pb2.Inpainting.FILL_ORIGINAL,
    image_pb2.Inpainting.FILL_LATENT_NOISE,
    image_pb2.Inpainting.FILL_LATENT_NOTHING,
)
_SAME = ("Use same sampler", "Use same scheduler")
_SAME_CHECKPOINT = ("", "none", "use same checkpoint")
_DECODERS: Mapping[type[DrawingFields], msgspec.json.Decoder[Any]] = {
    Txt2ImgRequest: msgspec.json.Decoder(Txt2ImgRequest),
    Img2ImgRequest: msgspec.json.Decoder(Img2ImgRequest),
}


def filled(body: Body) -> Body:
    """Fills what a request leaves open with what its infotext says.

    Raises:
        ProblemError: the infotext has a value that can't be.
    """
    if not body.infotext:
        return body
    said = fields_of(body.infotext)
    try:
        told = decode(_DECODERS[type(body)], msgspec.json.encode(said))
    except ProblemError as error:
        message = f"Invalid 'infotext': {error.problem.message}"
        raise invalid(message, "infotext") from None
    changes = {
        name: getattr(told, name)
        for name in said
        if name in body.__struct_fields__ and getattr(body, name) is None
    }
    if told.override_settings and body.override_settings:
        changes["override_settings"] = told.override_settings | body.override_settings
    return msgspec.structs.replace(body, **changes)


def from_generate_image(body: GenerateImageRequest) -> Txt2ImgRequest:
    """Puts a request of Velesio's in the WebUI's words."""
    return Txt2ImgRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        width=body.width,
        height=body.height,
        steps=body.steps,
        cfg_scale=_CFG_SCALE_OF_GENERATE_IMAGE if body.cfg_scale is None else body.cfg_scale,
        sampler_name=body.sampler_name or _SAMPLER_OF_GENERATE_IMAGE,
        scheduler=body.scheduler,
        seed=body.seed,
        override_settings=body.override_settings,
    )


def to_image_request(
    body: Txt2ImgRequest | Img2ImgRequest,
) -> tuple[image_pb2.ImageRequest, Wishes]:
    """Translates a request to draw; returns with it what takes the service's options to translate.

    Raises:
        ProblemError: a field can't be honoured, or an image is none.
    """
    if body.prompt is None:
        raise missing("prompt")
    refuse_undone(body)
    wishes = wishes_of(body.override_settings or {}, "override_settings")
    request = image_pb2.ImageRequest(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt or "",
        width=_floored(body.width or _SIDE),
        height=_floored(body.height or _SIDE),
        steps=body.steps or _STEPS,
        cfg_scale=_CFG_SCALE if body.cfg_scale is None else body.cfg_scale,
        sampler=sampler_of(body),
        scheduler=body.scheduler or "",
        seed=body.seed,
        variation=_variation(body),
        batch_size=body.batch_size or 1,
        batch_count=body.n_iter or 1,
        tiling=bool(body.tiling),
        sampler_tuning=_tuning(body),
        job_id=body.force_task_id or "",
        vae=wishes.vae or "",
        clip_skip=wishes.clip_skip,
        prompt_syntax=image_pb2.PROMPT_SYNTAX_WEIGHTED,
    )
    if wishes.output_format is not None:
        request.output_format = wishes.output_format
    if isinstance(body, Txt2ImgRequest):
        if body.enable_hr:
            request.hires.CopyFrom(_hires(body, request.width, request.height))
            wishes = replace(wishes, second_checkpoint=_second_checkpoint(body))
    else:
        _add_images(request, body)
    return request, wishes


def take_options(
    request: image_pb2.ImageRequest,
    wishes: Wishes,
    now: sampler_pb2.Options,
    checkpoints: Sequence[sampler_pb2.Checkpoint],
) -> None:
    """Adds what only the service's options and checkpoints can tell.

    Raises:
        ProblemError: the second pass shall have a checkpoint of its own.
    """
    format_ = request.output_format or now.output_format
    if format_ in _LOSSY:  # elsewhere the quality of JPEGs says nothing
        request.quality = options.QUALITY if wishes.quality is None else wishes.quality
    if wishes.checkpoint is not None:
        request.model = model_of(wishes.checkpoint, checkpoints)
    if wishes.second_checkpoint is not None:
        first = drawn_with(request.model or now.model, checkpoints)
        if first is None or model_of(wishes.second_checkpoint, checkpoints) != first.model:
            raise unsupported("hr_checkpoint_name", "one checkpoint draws both passes")
    interval = options.preview_interval(wishes, now)
    request.preview_interval_steps = options.shown_interval(now) if interval is None else interval


def sampler_of(body: DrawingFields) -> str:
    """The sampler that a request names."""
    return body.sampler_name or body.sampler_index or _SAMPLER


def _floored(side: int) -> int:
    return side - side % _MULTIPLE


def _variation(body: DrawingFields) -> image_pb2.Variation | None:
    width, height = body.seed_resize_from_w or 0, body.seed_resize_from_h or 0
    if not body.subseed_strength and width <= 0 and height <= 0:
        return None
    return image_pb2.Variation(
        subseed=body.subseed,
        strength=body.subseed_strength or 0.0,
        seed_width=max(width, 0),
        seed_height=max(height, 0),
    )


def _tuning(body: DrawingFields) -> image_pb2.SamplerTuning | None:
    eta = body.eta
    # Clients send 1 to every sampler, most of which have no eta or have 1 anyway; only DDIM
    # begins with another.
    if eta == 1 and not sampler_of(body).casefold().startswith("ddim"):
        eta = None
    tuning = image_pb2.SamplerTuning(
        eta=eta,
        s_churn=body.s_churn,
        s_tmin=body.s_tmin,
        s_tmax=body.s_tmax,
        s_noise=body.s_noise,
        s_min_uncond=body.s_min_uncond,
    )
    if isinstance(body, Img2ImgRequest) and body.initial_noise_multiplier is not None:
        tuning.initial_noise_multiplier = body.initial_noise_multiplier
    return tuning if tuning.ListFields() else None


def _hires(body: Txt2ImgRequest, width: int, height: int) -> image_pb2.Hires:
    hires = image_pb2.Hires(
        upscaler=body.hr_upscaler or "",
        steps=body.hr_second_pass_steps or 0,
        denoising_strength=_strength(body),
        prompt=body.hr_prompt or "",
        negative_prompt=body.hr_negative_prompt or "",
        sampler=_own(body.hr_sampler_name),
        scheduler=_own(body.hr_scheduler),
        cfg_scale=body.hr_cfg,
    )
    across, down = body.hr_resize_x or 0, body.hr_resize_y or 0
    if not across and not down:
        hires.scale = _HIRES_SCALE if body.hr_scale is None else body.hr_scale
        return hires
    # One side given keeps the shape.
    hires.width = _floored(across or down * width // height)
    hires.height = _floored(down or across * height // width)
    return hires


def _second_checkpoint(body: Txt2ImgRequest) -> str | None:
    name = (body.hr_checkpoint_name or "").strip()
    return None if name.casefold() in _SAME_CHECKPOINT else name


def _own(name: str | None) -> str:
    return "" if name is None or name in _SAME else name


def _strength(body: DrawingFields) -> float:
    strength = body.denoising_strength
    return _DENOISING_STRENGTH if strength is None else strength


def _add_images(request: image_pb2.ImageRequest, body: Img2ImgRequest) -> None:
    if not body.init_images:
        raise missing("init_images")
    for number, text in enumerate(body.init_images):
        request.init_images.append(picture_bytes(text, f"init_images[{number}]"))
    request.denoising_strength = _strength(body)
    request.resize_mode = _RESIZE_MODES[body.resize_mode or 0]
    if not body.mask:
        return
    full = body.inpaint_full_res
    request.inpainting.CopyFrom(
        image_pb2.Inpainting(
            mask=picture_bytes(body.mask, "mask"),
            invert_mask=body.inpainting_mask_invert == 1,
            blur_pixels=_blur(body),
            fill=_FILLS[body.inpainting_fill or 0],
            full_resolution=True if full is None else full,
            padding_pixels=body.inpaint_full_res_padding or 0,
        )
    )


def _blur(body: Img2ImgRequest) -> int:
    """Both ways alike; what is said of one way must not differ, unless it says the default."""
    ways = (body.mask_blur_x, body.mask_blur_y)
    blur = body.mask_blur
    if blur is None:
        blur = next((way for way in ways if way is not None), _MASK_BLUR)
        ways = tuple(_MASK_BLUR if way is None else way for way in ways) if any(ways) else ways
        neutral = (None, blur)
    else:
        neutral = (None, blur, _MASK_BLUR)
    for name, way in zip(("mask_blur_x", "mask_blur_y"), ways, strict=True):
        if way not in neutral:
            raise unsupported(name, "masks are blurred alike both ways; set mask_blur")
    return blur

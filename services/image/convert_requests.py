"""Between `penstock.image.v1.ImageRequest` and the request of the domain."""

import ctypes
import math
from typing import Any

from penstock.image.v1 import image_pb2 as pb

from services.image.requests import (
    Background,
    HiresWish,
    ImageRequest,
    InpaintingWish,
    MaskFill,
    OutputFormat,
    Priority,
    Resize,
    TuningWish,
    VariationWish,
)

_TUNING = TuningWish.__slots__
_PLAIN = (
    "model",
    "prompt",
    "negative_prompt",
    "width",
    "height",
    "steps",
    "sampler",
    "scheduler",
    "seed",
    "batch_size",
    "batch_count",
    "clip_skip",
    "tiling",
    "vae",
    "quality",
    "preview_interval_steps",
    "partial_image_count",
    "job_id",
    "user",
)
"""Fields that are the same on both sides."""
_NUMBERS = ("cfg_scale", "denoising_strength")


def to_request(message: pb.ImageRequest) -> ImageRequest:
    """Reads a request."""
    fill = {name: _given(message, name) for name in _PLAIN}
    inpainting = message.inpainting
    return ImageRequest(
        **fill,
        **{name: _number(message, name) for name in _NUMBERS},
        variation=_to_variation(message),
        init_images=tuple(message.init_images),
        resize_mode=Resize(message.resize_mode) if message.resize_mode else None,
        inpainting=InpaintingWish(
            mask=inpainting.mask,
            invert_mask=inpainting.invert_mask,
            blur_pixels=_given(inpainting, "blur_pixels"),
            fill=MaskFill(inpainting.fill) if inpainting.fill else None,
            full_resolution=_given(inpainting, "full_resolution"),
            padding_pixels=_given(inpainting, "padding_pixels"),
        )
        if message.HasField("inpainting")
        else None,
        hires=_to_hires(message),
        tuning=TuningWish(**{name: _number(message.sampler_tuning, name) for name in _TUNING})
        if message.HasField("sampler_tuning")
        else None,
        background=Background(message.background),
        output_format=OutputFormat(message.output_format) if message.output_format else None,
        priority=Priority(message.priority) if message.priority else Priority.NORMAL,
        weighs_words=message.prompt_syntax == pb.PROMPT_SYNTAX_WEIGHTED,
    )


def from_request(asked: ImageRequest) -> pb.ImageRequest:
    """Writes a request; pictures are left out."""
    message = pb.ImageRequest(
        **{name: getattr(asked, name) for name in (*_PLAIN, *_NUMBERS)},
        resize_mode=_value(asked.resize_mode),
        background=_value(asked.background),
        output_format=_value(asked.output_format),
        priority=_value(asked.priority),
        prompt_syntax=pb.PROMPT_SYNTAX_WEIGHTED
        if asked.weighs_words
        else pb.PROMPT_SYNTAX_UNSPECIFIED,
    )
    if (variation := asked.variation) is not None:
        message.variation.CopyFrom(
            pb.Variation(
                subseed=variation.subseed,
                strength=variation.strength,
                seed_width=variation.seed_width,
                seed_height=variation.seed_height,
            )
        )
    if (inpainting := asked.inpainting) is not None:
        message.inpainting.CopyFrom(
            pb.Inpainting(
                invert_mask=inpainting.invert_mask,
                blur_pixels=inpainting.blur_pixels,
                fill=_value(inpainting.fill),
                full_resolution=inpainting.full_resolution,
                padding_pixels=inpainting.padding_pixels,
            )
        )
    if (hires := asked.hires) is not None:
        message.hires.CopyFrom(
            pb.Hires(**{name: getattr(hires, name) for name in HiresWish.__slots__})
        )
    if (tuning := asked.tuning) is not None:
        message.sampler_tuning.CopyFrom(
            pb.SamplerTuning(**{name: getattr(tuning, name) for name in _TUNING})
        )
    return message


def _to_variation(message: pb.ImageRequest) -> VariationWish | None:
    if not message.HasField("variation"):
        return None
    variation = message.variation
    return VariationWish(
        subseed=_given(variation, "subseed"),
        strength=_number(variation, "strength"),
        seed_width=variation.seed_width,
        seed_height=variation.seed_height,
    )


def _to_hires(message: pb.ImageRequest) -> HiresWish | None:
    if not message.HasField("hires"):
        return None
    hires = message.hires
    numbers = ("scale", "denoising_strength", "cfg_scale")
    return HiresWish(
        **{name: _number(hires, name) for name in numbers},
        width=_given(hires, "width"),
        height=_given(hires, "height"),
        upscaler=hires.upscaler,
        steps=hires.steps,
        prompt=hires.prompt,
        negative_prompt=hires.negative_prompt,
        sampler=hires.sampler,
        scheduler=hires.scheduler,
    )


def _given(message: Any, name: str) -> Any:
    """A field's value; None for an optional one that was not given."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        return None
    return getattr(message, name)


def _number(message: Any, name: str) -> Any:
    """A 32-bit float as the number that was meant: 0.3 rather than 0.30000001192092896."""
    value: float | None = _given(message, name)
    if value is None:
        return None
    if math.isinf(value):  # "no bound" is spelt 0 here
        return 0.0
    rounded = (float(f"{value:.{digits}g}") for digits in range(6, 9))
    return next((number for number in rounded if ctypes.c_float(number).value == value), value)


def _value(member: Any) -> Any:
    return None if member is None else member.value

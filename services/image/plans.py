"""From a request with everything filled in to the plan of its drawings."""

from dataclasses import replace
from typing import TypeVar

from services.errors import InvalidArgument, UnsupportedParameter
from services.image.defaults import HIRES_SCALE
from services.image.engine import (
    Fill,
    HiresPlan,
    ImageModel,
    ImageModelInfo,
    Mode,
    Plan,
    Tuning,
    Variation,
)
from services.image.limits import Limits, too_much_memory
from services.image.requests import ImageRequest, MaskFill, Resize, TuningWish, VariationWish

T = TypeVar("T")

_FILLS = {
    MaskFill.SURROUNDINGS: Fill.PIXELS,  # that they are filled is done before
    MaskFill.ORIGINAL: Fill.PIXELS,
    MaskFill.LATENT_NOISE: Fill.NOISE,
    MaskFill.LATENT_NOTHING: Fill.NOTHING,
}
_NEUTRAL = Tuning()


def with_sizes(
    asked: ImageRequest, info: ImageModelInfo, initial: tuple[int, int] | None, limits: Limits
) -> ImageRequest:
    """Fills in width and height, and the final ones of a second pass.

    `initial` is the size of the initial image, where there is one.

    Raises `InvalidArgument` where the model can't draw the size, or it passes a limit.
    """
    multiple = info.size_multiple
    width, height = initial or (info.width, info.height)
    width = _width(asked.width, width, multiple, "width")
    height = _width(asked.height, height, multiple, "height")
    limits.check_size(width, height, "width")
    hires = asked.hires
    if hires is not None:
        across, down = hires.width, hires.height
        for side, field in ((across, "hires.width"), (down, "hires.height")):
            if side is not None:
                _width(side, side, multiple, field)
        scale = HIRES_SCALE if hires.scale is None else hires.scale
        if across and not down:
            scale = across / width
        elif down and not across:
            scale = down / height
        across = across or _floor(width * scale, multiple)
        down = down or _floor(height * scale, multiple)
        if across < width or down < height:
            raise InvalidArgument(
                f"'hires': {across}x{down} is smaller than {width}x{height}, which it enlarges.",
                field="hires.width",
            )
        limits.check_size(across, down, "hires")
        hires = replace(hires, scale=None, width=across, height=down)
    return replace(asked, width=width, height=height, hires=hires)


def plan_of(asked: ImageRequest, info: ImageModelInfo, *, latent_resize: bool = False) -> Plan:
    """Returns the plan of a request that has everything filled in.

    Raises `UnsupportedParameter` where the model can't do it.
    """
    mode = Mode.TEXT
    if asked.denoising_strength is not None:
        mode = Mode.IMAGE if asked.inpainting is None else Mode.INPAINT
    if mode not in info.modes:
        field = "inpainting" if mode is Mode.INPAINT else "init_images"
        raise UnsupportedParameter(
            f"'{field}' is not supported: this model draws from text only.", field=field
        )
    fill = asked.inpainting.fill if asked.inpainting is not None else None
    hires = asked.hires
    return Plan(
        width=_given(asked.width),
        height=_given(asked.height),
        steps=_given(asked.steps),
        cfg_scale=_given(asked.cfg_scale),
        sampler=asked.sampler,
        scheduler=asked.scheduler,
        mode=mode,
        denoising_strength=1.0 if mode is Mode.TEXT else _given(asked.denoising_strength),
        latent_resize=latent_resize,
        fill=_FILLS[fill] if fill is not None else Fill.PIXELS,
        clip_skip=_given(asked.clip_skip),
        tiling=asked.tiling,
        tuning=_tuning(asked.tuning, info),
        hires=None
        if hires is None
        else HiresPlan(
            width=hires.width or 0,
            height=hires.height or 0,
            upscaler=hires.upscaler,
            steps=hires.steps,
            denoising_strength=_given(hires.denoising_strength),
            sampler=hires.sampler,
            scheduler=hires.scheduler,
            cfg_scale=_given(hires.cfg_scale),
        ),
    )


def check_plan(model: ImageModel, plan: Plan, budget: int) -> None:
    """Refuses what this model can't draw, and what memory doesn't do for.

    Raises:
        UnsupportedParameter: the model can't do it.
        InvalidArgument: it takes too much memory.
    """
    refused = model.refusal(plan)
    if refused is not None:
        field, sentence = refused
        raise UnsupportedParameter(f"'{field}': {sentence}", field=field)
    needed = model.memory_bytes(plan, 1)
    if needed > budget:
        size = (plan.hires.width, plan.hires.height) if plan.hires else (plan.width, plan.height)
        raise too_much_memory(needed, budget, f"an image of {size[0]}x{size[1]}")


def variation_of(wish: VariationWish | None, number: int, asked: ImageRequest) -> Variation | None:
    """The variation of an image by its number in the job."""
    if wish is None:
        return None
    width, height = wish.seed_width, wish.seed_height
    if width or height:
        width, height = width or asked.width or 0, height or asked.height or 0
    return Variation((wish.subseed or 0) + number, wish.strength or 0.0, width, height)


def resizes_in_latents(asked: ImageRequest) -> bool:
    """Whether initial images keep their size until they are latents."""
    return asked.resize_mode is Resize.LATENT and asked.inpainting is None


def _tuning(wish: TuningWish | None, info: ImageModelInfo) -> Tuning:
    if wish is None:
        return _NEUTRAL
    given = {
        name: value
        for name in Tuning.__slots__
        if (value := getattr(wish, name)) is not None and value != getattr(_NEUTRAL, name)
    }
    # Of some samplers, an eta says nothing that they don't do anyway: the engine knows.
    for name in sorted(given.keys() - info.tuning - {"eta"}):
        field = f"sampler_tuning.{name}"
        raise UnsupportedParameter(
            f"'{field}' is not supported: no sampler of this model has it. Leave it out.",
            field=field,
        )
    return Tuning(**given)


def _width(given: int | None, default: int, multiple: int, field: str) -> int:
    if given is None:
        return _floor(default, multiple)
    if given % multiple:
        raise InvalidArgument(
            f"'{field}': {given} is no multiple of {multiple}, as this model needs it. Take "
            f"{max(multiple, given // multiple * multiple)}.",
            field=field,
        )
    return given


def _floor(side: float, multiple: int) -> int:
    # A scale arrives as a 32-bit float: 1.1 times 640 is 704, not what 703.99… rounds down to.
    return max(multiple, int((side + 1e-3) // multiple) * multiple)


def _given(value: T | None) -> T:
    assert value is not None
    return value

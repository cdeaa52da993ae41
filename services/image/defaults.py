"""What a request leaves out: the options, the model's own, or the defaults of the proto.

Values that nobody knows or that this model can't honour are refused by their field's path; nothing
is ignored.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from services.errors import InvalidArgument, UnsupportedParameter
from services.image.engine import ImageModelInfo
from services.image.limits import Limits
from services.image.requests import (
    Background,
    HiresWish,
    ImageRequest,
    InpaintingWish,
    MaskFill,
    OutputFormat,
    Resize,
    VariationWish,
)
from services.image.samplers import AUTOMATIC, SCHEDULERS, find_sampler, find_scheduler
from services.image.seeds import resolve
from services.serving.models import ModelSettings

T = TypeVar("T")

STEPS = 20
CFG_SCALE = 7.0
STRENGTH = 0.75
BLUR_PIXELS = 4
HIRES_SCALE = 2.0
UPSCALER = "Latent"
QUALITY = 100
_OWN_VAE = frozenset({"", "automatic", "none"})


@dataclass(frozen=True, slots=True)
class Options:
    """What requests take when they don't say. None and empty leave it to the model."""

    model: str = ""
    vae: str | None = None
    clip_skip: int | None = None
    output_format: OutputFormat | None = None
    preview_interval_steps: int | None = None


def fill_in(
    request: ImageRequest,
    options: Options,
    info: ImageModelInfo,
    model: str,
    limits: Limits,
    settings: ModelSettings,
) -> ImageRequest:
    """Returns the request with everything filled in but what depends on the size of pictures.

    `model` is the ID of the model, and `settings` are its own.

    Raises:
        InvalidArgument: a name is unknown, a limit is passed, or fields contradict each other.
        UnsupportedParameter: the model can't do it.
    """
    batch_size, batch_count = _counts(request, limits)
    sampler, scheduler = _method(request.sampler, request.scheduler, info, "")
    steps = request.steps or settings.default_steps or STEPS
    cfg_scale = _first(request.cfg_scale, settings.default_cfg_scale, CFG_SCALE)
    limits.check_steps(steps, "steps")
    _check_clip_skip(clip_skip := request.clip_skip or options.clip_skip or 1, info)
    check_vae(request.vae or options.vae or "", "vae")
    if request.tiling and not info.tiling:
        raise _unsupported("tiling", "this model can't draw tiles")
    if request.negative_prompt and not info.negative_prompt:
        raise _unsupported("negative_prompt", "this model takes none")
    return replace(
        request,
        model=model,
        steps=steps,
        cfg_scale=cfg_scale,
        sampler=sampler,
        scheduler=scheduler,
        seed=resolve(request.seed, batch_size * batch_count, "seed"),
        variation=_variation(request, info, batch_size * batch_count),
        batch_size=batch_size,
        batch_count=batch_count,
        clip_skip=clip_skip,
        vae="",
        hires=_hires(
            replace(request, steps=steps, cfg_scale=cfg_scale), info, limits, sampler, scheduler
        ),
        preview_interval_steps=_first(
            request.preview_interval_steps, options.preview_interval_steps, 0
        ),
        partial_image_count=request.partial_image_count or 0,
        **_file(request, options, info),
        **_initial(request),
    )


def check_vae(name: str, field: str) -> None:
    """Refuses VAEs other than the model's own."""
    if name.casefold() not in _OWN_VAE:
        raise InvalidArgument(
            f"'{field}': there is no VAE '{name[:64]}'. There is 'Automatic', the model's own.",
            field=field,
        )


def named(name: str, known: Collection[str]) -> str | None:
    """Returns the one of the known names that is meant, in any case."""
    if name in known:
        return name
    return next((one for one in known if one.casefold() == name.casefold()), None)


def _counts(request: ImageRequest, limits: Limits) -> tuple[int, int]:
    batch_size, given = request.batch_size or 1, len(request.init_images)
    if given > batch_size:
        raise InvalidArgument(
            f"'init_images': {given} images for a batch_size of {batch_size}. Give at most as many "
            f"as the batch has, or a greater batch_size.",
            field="init_images",
        )
    if given > 1:
        batch_size = given  # they make the batch, one each
    batch_count = request.batch_count or 1
    limits.check_count(batch_size, batch_count)
    return batch_size, batch_count


def _method(sampler: str, scheduler: str, info: ImageModelInfo, path: str) -> tuple[str, str]:
    """Returns the canonical names of sampler and sigma schedule."""
    found = find_sampler(sampler) if sampler else find_sampler(info.default_sampler)
    if found is None or found[0].name not in info.samplers:
        known = ", ".join(sorted(info.samplers))
        raise InvalidArgument(
            f"'{path}sampler': this model has no sampler '{sampler[:64]}'. It has: {known}.",
            field=f"{path}sampler",
        )
    known_sampler, said = found
    name = said or AUTOMATIC
    if scheduler:
        known_scheduler = find_scheduler(scheduler)
        if known_scheduler is None or known_scheduler.name not in info.schedulers | {AUTOMATIC}:
            labels = (s.label for s in SCHEDULERS if s.name in info.schedulers)
            raise InvalidArgument(
                f"'{path}scheduler': this model has no sigma schedule '{scheduler[:64]}'. It has: "
                f"{', '.join(labels)}.",
                field=f"{path}scheduler",
            )
        if known_scheduler.name != AUTOMATIC:
            name = known_scheduler.name
    return known_sampler.name, name  # what `automatic` stands for is the engine's to say


def _variation(request: ImageRequest, info: ImageModelInfo, images: int) -> VariationWish | None:
    wish = request.variation
    if wish is None or not (wish.strength or wish.seed_width or wish.seed_height):
        return None  # it would change nothing
    if not info.variation:
        raise _unsupported("variation", "this model's noise can't be mixed")
    subseed = resolve(wish.subseed, images, "variation.subseed")
    return replace(wish, subseed=subseed, strength=wish.strength or 0.0)


def _hires(
    request: ImageRequest,
    info: ImageModelInfo,
    limits: Limits,
    sampler: str,
    scheduler: str,
) -> HiresWish | None:
    wish = request.hires
    if wish is None:
        return None
    upscaler = named(wish.upscaler or UPSCALER, info.upscalers)
    if upscaler is None:
        known = ", ".join(sorted(info.upscalers)) or "none"
        raise InvalidArgument(
            f"'hires.upscaler': this model has no upscaler '{(wish.upscaler or UPSCALER)[:64]}'. "
            f"It has: {known}.",
            field="hires.upscaler",
        )
    if wish.scale is not None and (wish.width or wish.height):
        raise InvalidArgument(
            "'hires.scale': the final size is given already. Leave one of them out.",
            field="hires.scale",
        )
    if wish.negative_prompt and not info.negative_prompt:
        raise _unsupported("hires.negative_prompt", "this model takes none")
    if wish.sampler or wish.scheduler:
        # A sampler of its own brings its own schedule.
        given = wish.scheduler or ("" if wish.sampler else scheduler)
        sampler, scheduler = _method(wish.sampler or sampler, given, info, "hires.")
    limits.check_steps(wish.steps, "hires.steps")
    return replace(
        wish,
        upscaler=upscaler,
        steps=wish.steps or request.steps,
        denoising_strength=_first(wish.denoising_strength, STRENGTH),
        prompt=wish.prompt or request.prompt,
        negative_prompt=wish.negative_prompt or request.negative_prompt,
        sampler=sampler,
        scheduler=scheduler,
        cfg_scale=_first(wish.cfg_scale, request.cfg_scale),
    )


def _check_clip_skip(clip_skip: int, info: ImageModelInfo) -> None:
    if clip_skip > info.max_clip_skip:
        raise _unsupported(
            "clip_skip", f"this model takes at most {info.max_clip_skip}, not {clip_skip}"
        )


def _file(request: ImageRequest, options: Options, info: ImageModelInfo) -> dict[str, Any]:
    """Fills in how images are written."""
    format = request.output_format or options.output_format or OutputFormat.PNG
    quality = _first(request.quality, QUALITY)
    if format is OutputFormat.PNG and quality != QUALITY:
        raise InvalidArgument(
            "'quality': a PNG is lossless. Leave it out, or ask for JPEG or WebP.", field="quality"
        )
    if request.background is Background.TRANSPARENT:
        if not info.transparency:
            raise _unsupported("background", "this model draws no transparency")
        if format is OutputFormat.JPEG:
            raise InvalidArgument(
                "'background': a JPEG has no transparency. Ask for PNG or WebP.", field="background"
            )
    return {"output_format": format, "quality": quality}


def _initial(request: ImageRequest) -> dict[str, Any]:
    """Fills in what has to do with initial images, and refuses it where there are none."""
    tuning, inpainting = request.tuning, request.inpainting
    if not request.init_images:
        noise = tuning.initial_noise_multiplier if tuning else None
        wrong = {
            "denoising_strength": request.denoising_strength is not None,
            "resize_mode": request.resize_mode not in (None, Resize.STRETCH),
            "inpainting": inpainting is not None,
            "sampler_tuning.initial_noise_multiplier": noise not in (None, 1.0),
        }
        for field, given in wrong.items():
            if given:
                raise InvalidArgument(f"'{field}': needs init_images.", field=field)
        return {"resize_mode": None}
    if request.hires is not None:
        raise InvalidArgument("'hires': is only for requests without init_images.", field="hires")
    resize = request.resize_mode or Resize.STRETCH
    if inpainting and resize is Resize.LATENT and inpainting.full_resolution is False:
        raise _unsupported("resize_mode", "a masked image can't be scaled in latent space")
    return {
        "denoising_strength": _first(request.denoising_strength, STRENGTH),
        "resize_mode": resize,
        "inpainting": None if inpainting is None else _inpainting(inpainting),
    }


def _inpainting(wish: InpaintingWish) -> InpaintingWish:
    return replace(
        wish,
        blur_pixels=_first(wish.blur_pixels, BLUR_PIXELS),
        fill=wish.fill or MaskFill.ORIGINAL,
        full_resolution=_first(wish.full_resolution, True),
        padding_pixels=wish.padding_pixels or 0,
    )


def _first(given: T | None, *others: T | None) -> T:
    return next(value for value in (given, *others) if value is not None)


def _unsupported(field: str, why: str) -> UnsupportedParameter:
    return UnsupportedParameter(f"'{field}' is not supported: {why}.", field=field)

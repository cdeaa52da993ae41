"""What images are drawn with, in the WebUI's words: their infotexts, and its `info` object."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.image.checkpoints import Checkpoint
from services.image.events import FinishedImage
from services.image.pictures.infotext import (
    Facts,
    HiresFacts,
    InpaintFacts,
    TuningFacts,
    VariationFacts,
    write_infotext,
)
from services.image.requests import HiresWish, ImageRequest, MaskFill, TuningWish
from services.image.samplers import find_scheduler

_FILLS = {
    MaskFill.SURROUNDINGS: "fill",
    MaskFill.ORIGINAL: "original",
    MaskFill.LATENT_NOISE: "latent noise",
    MaskFill.LATENT_NOTHING: "latent nothing",
}
_NEUTRAL = {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": 0.0, "s_noise": 1.0, "s_min_uncond": 0.0}


@dataclass(frozen=True, slots=True)
class Describer:
    """Tells of the images of one job: for the same images the same, but for the time in `info`."""

    asked: ImageRequest
    """With everything filled in."""
    checkpoint: Checkpoint
    version: str
    started: float = field(default_factory=time.time)
    """Only `info` tells it."""

    def seed(self, index: int) -> int:
        """The seed of an image."""
        return (self.asked.seed or 0) + index

    def subseed(self, index: int) -> int | None:
        """The second seed of an image, where there is one."""
        variation = self.asked.variation
        return None if variation is None else (variation.subseed or 0) + index

    def infotext(self, index: int) -> str:
        """The infotext of an image."""
        asked = self.asked
        return write_infotext(
            Facts(
                prompt=asked.prompt,
                negative_prompt=asked.negative_prompt,
                steps=asked.steps or 0,
                sampler=asked.sampler,
                scheduler=_label(asked.scheduler),
                cfg_scale=asked.cfg_scale or 0.0,
                seed=self.seed(index),
                width=asked.width or 0,
                height=asked.height or 0,
                model_hash=self.checkpoint.short_hash,
                model=self.checkpoint.name,
                variation=self._variation(index),
                denoising_strength=self._strength(),
                clip_skip=asked.clip_skip or 1,
                tiling=asked.tiling,
                inpaint=self._inpaint(),
                hires=None if asked.hires is None else _hires(asked.hires, asked),
                tuning=_tuning(asked.tuning),
                version=self.version,
            )
        )

    def info(self, images: Sequence[FinishedImage]) -> Mapping[str, Any]:
        """The WebUI's `info` object of images."""
        asked, count = self.asked, len(images)
        variation = asked.variation
        first_subseed = self.subseed(0)
        steps = asked.steps or 0
        return {
            "prompt": asked.prompt,
            "all_prompts": [asked.prompt] * count,
            "negative_prompt": asked.negative_prompt,
            "all_negative_prompts": [asked.negative_prompt] * count,
            "seed": self.seed(0),
            "all_seeds": [image.seed for image in images],
            "subseed": -1 if first_subseed is None else first_subseed,
            "all_subseeds": [-1 if one.subseed is None else one.subseed for one in images],
            "subseed_strength": 0.0 if variation is None else variation.strength,
            "width": asked.width,
            "height": asked.height,
            "sampler_name": asked.sampler,
            "cfg_scale": asked.cfg_scale,
            "steps": steps,
            "batch_size": asked.batch_size,
            "restore_faces": False,
            "face_restoration_model": None,
            "sd_model_name": self.checkpoint.name,
            "sd_model_hash": self.checkpoint.short_hash,
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": variation.seed_width if variation else -1,
            "seed_resize_from_h": variation.seed_height if variation else -1,
            "denoising_strength": self._strength(),
            "extra_generation_params": self._extra(),
            "index_of_first_image": 0,
            "infotexts": [image.infotext for image in images],
            "styles": [],
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(self.started)),
            "clip_skip": asked.clip_skip,
            "is_using_inpainting_conditioning": False,
            "version": self.version,
        }

    def _strength(self) -> float | None:
        if self.asked.hires is not None:
            return self.asked.hires.denoising_strength
        return self.asked.denoising_strength

    def _variation(self, index: int) -> VariationFacts | None:
        wish, subseed = self.asked.variation, self.subseed(index)
        if wish is None or subseed is None:
            return None
        return VariationFacts(subseed, wish.strength or 0.0, wish.seed_width, wish.seed_height)

    def _inpaint(self) -> InpaintFacts | None:
        wish = self.asked.inpainting
        if wish is None:
            return None
        return InpaintFacts(
            blur_pixels=wish.blur_pixels or 0,
            inverted=wish.invert_mask,
            full_resolution=bool(wish.full_resolution),
            padding_pixels=wish.padding_pixels or 0,
            masked_content=_FILLS[wish.fill or MaskFill.ORIGINAL],
        )

    def _extra(self) -> dict[str, Any]:
        """What the WebUI tells of a job beside what every one has."""
        extra: dict[str, Any] = {"Schedule type": _label(self.asked.scheduler)}
        if (hires := self.asked.hires) is not None:
            extra["Hires resize"] = f"{hires.width}x{hires.height}"
            extra["Hires steps"] = hires.steps
            extra["Hires upscaler"] = hires.upscaler
        if (inpaint := self._inpaint()) is not None:
            extra["Mask blur"] = inpaint.blur_pixels
        return extra


def _label(scheduler: str) -> str:
    found = find_scheduler(scheduler)
    return scheduler if found is None else found.label


def _hires(wish: HiresWish, asked: ImageRequest) -> HiresFacts:
    """What is as in the first pass is left out."""
    same_method = (wish.sampler, wish.scheduler) == (asked.sampler, asked.scheduler)
    return HiresFacts(
        upscaler=wish.upscaler,
        width=wish.width or 0,
        height=wish.height or 0,
        steps=wish.steps,
        prompt="" if wish.prompt == asked.prompt else wish.prompt,
        negative_prompt=""
        if wish.negative_prompt == asked.negative_prompt
        else wish.negative_prompt,
        sampler="" if same_method else wish.sampler,
        scheduler="" if same_method else _label(wish.scheduler),
        cfg_scale=None if wish.cfg_scale == asked.cfg_scale else wish.cfg_scale,
    )


def _tuning(wish: TuningWish | None) -> TuningFacts:
    if wish is None:
        return TuningFacts()
    given = {
        name: value
        for name in TuningWish.__slots__
        if (value := getattr(wish, name)) is not None and value != _NEUTRAL.get(name, 1.0)
    }
    if wish.eta is not None:
        given["eta"] = wish.eta  # its default is the sampler's
    return TuningFacts(**given)

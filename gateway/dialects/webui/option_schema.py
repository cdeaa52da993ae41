"""The WebUI's options that mean something here; all others are refused by name.

An option that is null is absent.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta


class OptionValues(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Options, as `/sdapi/v1/options` and `override_settings` take them.

    Below `live_previews_enable` are those that have one value only: here they are what the
    WebUI has for a neutral value.
    """

    sd_model_checkpoint: Annotated[str, Meta(max_length=256)] | None = None
    sd_checkpoint_hash: Annotated[str, Meta(max_length=64)] | None = None
    sd_vae: Annotated[str, Meta(max_length=256)] | None = None
    CLIP_stop_at_last_layers: Annotated[int, Meta(ge=1, le=12)] | None = None
    samples_format: Annotated[str, Meta(max_length=16)] | None = None
    jpeg_quality: Annotated[int, Meta(ge=0, le=100)] | None = None
    show_progress_every_n_steps: Annotated[int, Meta(ge=-1, le=1000)] | None = None
    live_previews_enable: bool | None = None
    samples_save: bool | None = None
    grid_save: bool | None = None
    return_grid: bool | None = None
    return_mask: bool | None = None
    return_mask_composite: bool | None = None
    enable_pnginfo: bool | None = None
    face_restoration: bool | None = None
    sd_hypernetwork: str | None = None
    eta_noise_seed_delta: int | None = None
    eta_ancestral: float | None = None
    eta_ddim: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    s_min_uncond: float | None = None
    initial_noise_multiplier: float | None = None
    inpainting_mask_weight: float | None = None
    token_merging_ratio: float | None = None
    token_merging_ratio_img2img: float | None = None
    token_merging_ratio_hr: float | None = None
    img2img_color_correction: bool | None = None
    img2img_fix_steps: bool | None = None
    upscaler_for_img2img: str | None = None


FIXED: Mapping[str, object] = {
    "samples_save": False,
    "grid_save": False,
    "return_grid": False,
    "return_mask": False,
    "return_mask_composite": False,
    "enable_pnginfo": True,
    "face_restoration": False,
    "sd_hypernetwork": "None",
    "eta_noise_seed_delta": 0,
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "s_min_uncond": 0.0,
    "initial_noise_multiplier": 1.0,
    "inpainting_mask_weight": 1.0,
    "token_merging_ratio": 0.0,
    "token_merging_ratio_img2img": 0.0,
    "token_merging_ratio_hr": 0.0,
    "img2img_color_correction": False,
    "img2img_fix_steps": False,
    "upscaler_for_img2img": "None",
}
"""Options with one value only."""

NAMES = OptionValues.__struct_fields__

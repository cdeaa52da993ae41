"""Requests of the WebUI's API, as it documents them, and of `/generate-image`.

A field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

Prompt = Annotated[str, Meta(max_length=65_536)]
Name = Annotated[str, Meta(max_length=128)]
Side = Annotated[int, Meta(ge=8, le=16_384)]
OtherSide = Annotated[int, Meta(ge=-1, le=16_384)]
"""0 and -1 say nothing."""
Steps = Annotated[int, Meta(ge=1, le=1000)]
Scale = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Multiplier = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=-1, le=2**53 - 1)]
Images = Annotated[int, Meta(ge=1, le=64)]
Batches = Annotated[int, Meta(ge=1, le=1000)]
Blur = Annotated[int, Meta(ge=0, le=256)]
Choice = Annotated[int, Meta(ge=0, le=3)]


class DrawingFields(msgspec.Struct, kw_only=True):
    """What drawings from text and from images have in common."""

    prompt: Prompt | None = None
    """Required, unless `infotext` has one."""
    negative_prompt: Prompt | None = None
    styles: list[str] | None = None
    seed: Seed | None = None
    subseed: Seed | None = None
    subseed_strength: Share | None = None
    seed_resize_from_h: OtherSide | None = None
    seed_resize_from_w: OtherSide | None = None
    sampler_name: Name | None = None
    sampler_index: Name | None = None
    scheduler: Name | None = None
    batch_size: Images | None = None
    n_iter: Batches | None = None
    steps: Steps | None = None
    cfg_scale: Scale | None = None
    width: Side | None = None
    height: Side | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = None
    do_not_save_grid: bool | None = None
    eta: Share | None = None
    denoising_strength: Share | None = None
    s_min_uncond: Annotated[float, Meta(ge=0, le=15)] | None = None
    s_churn: Scale | None = None
    s_tmax: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    s_tmin: Annotated[float, Meta(ge=0, le=1000)] | None = None
    s_noise: Multiplier | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    disable_extra_networks: bool | None = None
    firstpass_image: str | None = None
    script_name: str | None = None
    script_args: AnyJson = msgspec.UNSET
    send_images: bool | None = None
    save_images: bool | None = None
    alwayson_scripts: dict[str, Any] | None = None
    force_task_id: str | None = None
    infotext: Annotated[str, Meta(max_length=262_144)] | None = None


class Txt2ImgRequest(DrawingFields, kw_only=True):
    """Body of `POST /sdapi/v1/txt2img`."""

    enable_hr: bool | None = None
    firstphase_width: int | None = None
    firstphase_height: int | None = None
    hr_scale: Annotated[float, Meta(ge=1, le=4)] | None = None
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Annotated[int, Meta(ge=0, le=1000)] | None = None
    hr_resize_x: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    hr_resize_y: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    hr_checkpoint_name: str | None = None
    hr_sampler_name: Name | None = None
    hr_scheduler: Name | None = None
    hr_cfg: Scale | None = None
    """`cfg_scale` of the second pass. The WebUI has none; its fork Forge calls it so."""
    hr_prompt: Prompt | None = None
    hr_negative_prompt: Prompt | None = None


class Img2ImgRequest(DrawingFields, kw_only=True):
    """Body of `POST /sdapi/v1/img2img`."""

    init_images: Annotated[list[str], Meta(max_length=64)] | None = None
    resize_mode: Choice | None = None
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur: Blur | None = None
    mask_blur_x: Blur | None = None
    mask_blur_y: Blur | None = None
    mask_round: bool | None = None
    inpainting_fill: Choice | None = None
    inpaint_full_res: bool | None = None
    inpaint_full_res_padding: Annotated[int, Meta(ge=0, le=1024)] | None = None
    inpainting_mask_invert: Annotated[int, Meta(ge=0, le=1)] | None = None
    initial_noise_multiplier: Multiplier | None = None
    latent_mask: str | None = None
    include_init_images: bool | None = None


class GenerateImageRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /generate-image`."""

    prompt: Prompt
    negative_prompt: Prompt | None = None
    width: Side | None = None
    height: Side | None = None
    steps: Steps | None = None
    cfg_scale: Scale | None = None
    sampler_name: Name | None = None
    scheduler: Name | None = None
    seed: Seed | None = None
    batch_size: Annotated[int, Meta(ge=1, le=1)] | None = None
    n_iter: Annotated[int, Meta(ge=1, le=1)] | None = None
    override_settings: dict[str, Any] | None = None


class PngInfoRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /sdapi/v1/png-info`."""

    image: str


class ProgressQuery(msgspec.Struct, kw_only=True):
    """Parameters of `GET /sdapi/v1/progress`."""

    skip_current_image: str | None = None


class TaskProgressRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /internal/progress`."""

    id_task: Annotated[str, Meta(min_length=1, max_length=128)]
    """`force_task_id` of a request to draw."""
    id_live_preview: Annotated[int, Meta(ge=-1, le=2**53 - 1)] | None = None
    """Number of the preview that the client has."""

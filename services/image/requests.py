"""What callers ask of ImageService, free of any transport.

Fields, ranges and defaults are those of `protos/penstock/image/v1/image.proto`; an optional field
that is None was not given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.metering import Work


class Priority(Enum):
    """Order among waiting jobs; values are those of the proto."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class OutputFormat(Enum):
    """File format of an image; values are those of the proto."""

    PNG = 1
    JPEG = 2
    WEBP = 3


class Background(Enum):
    """What is behind the picture; values are those of the proto."""

    MODEL = 0
    OPAQUE = 1
    TRANSPARENT = 2


class Resize(Enum):
    """How an initial image is fitted; values are those of the proto."""

    STRETCH = 1
    CROP = 2
    FILL = 3
    LATENT = 4


class MaskFill(Enum):
    """What is under the mask when drawing starts; values are those of the proto."""

    SURROUNDINGS = 1
    ORIGINAL = 2
    LATENT_NOISE = 3
    LATENT_NOTHING = 4


@dataclass(frozen=True, slots=True)
class VariationWish:
    """Mixes the noise of a second seed into that of the first."""

    subseed: int | None = None
    strength: float | None = None
    seed_width: int = 0
    seed_height: int = 0


@dataclass(frozen=True, slots=True)
class InpaintingWish:
    """Draws a part of an image anew."""

    mask: bytes = field(repr=False)
    invert_mask: bool = False
    blur_pixels: int | None = None
    fill: MaskFill | None = None
    full_resolution: bool | None = None
    padding_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class HiresWish:
    """Draws small first, then larger with detail."""

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    upscaler: str = ""
    steps: int = 0
    denoising_strength: float | None = None
    prompt: str = ""
    negative_prompt: str = ""
    sampler: str = ""
    scheduler: str = ""
    cfg_scale: float | None = None


@dataclass(frozen=True, slots=True)
class TuningWish:
    """Fine points of a sampler."""

    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    s_min_uncond: float | None = None
    initial_noise_multiplier: float | None = None


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """Asks for images."""

    model: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str = ""
    scheduler: str = ""
    seed: int | None = None
    variation: VariationWish | None = None
    batch_size: int | None = None
    batch_count: int | None = None
    init_images: Sequence[bytes] = field(default=(), repr=False)
    denoising_strength: float | None = None
    resize_mode: Resize | None = None
    inpainting: InpaintingWish | None = None
    hires: HiresWish | None = None
    clip_skip: int | None = None
    tiling: bool = False
    weighs_words: bool = False
    """Whether brackets in prompts say how much words weigh."""
    tuning: TuningWish | None = None
    vae: str = ""
    background: Background = Background.MODEL
    output_format: OutputFormat | None = None
    quality: int | None = None
    preview_interval_steps: int | None = None
    partial_image_count: int | None = None
    job_id: str = ""
    user: str = ""
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf, and until when, a call runs."""

    principal: str = ""
    is_admin: bool = False
    """Whether the caller may overtake others, and see and end their jobs."""
    deadline: float | None = None
    """On the event loop's clock."""
    work: Work | None = None
    """What the account is told of the call, but for the model and the tokens. None: none is
    kept."""

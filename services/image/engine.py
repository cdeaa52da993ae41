"""The engine port: a loaded image model, free of queues and transport.

Queueing, fairness, files and infotexts belong to the domain, the same on every engine. An engine
draws one batch at a time, off the event loop, on its own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image


class Mode(Enum):
    """What a drawing starts from."""

    TEXT = "text"
    IMAGE = "image"
    INPAINT = "inpaint"
    """An image, of which the white part of a mask is drawn anew."""


class Fill(Enum):
    """What is under the mask when drawing starts, as far as it is the engine's to do."""

    PIXELS = "pixels"
    """The initial image as it is given (the domain has filled it already, where asked to)."""
    NOISE = "noise"
    NOTHING = "nothing"
    """Latents of zero."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Fine points of a sampler. None and neutral values are the sampler's own.

    Ranges and meanings: `SamplerTuning` of `protos/penstock/image/v1/image.proto`.
    """

    eta: float | None = None
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = 0.0
    """0 is no bound."""
    s_noise: float = 1.0
    s_min_uncond: float = 0.0
    initial_noise_multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class HiresPlan:
    """The second, larger pass over what the first one drew."""

    width: int
    height: int
    upscaler: str
    """One of `ImageModelInfo.upscalers`."""
    steps: int
    """Steps that are really done are `steps * denoising_strength`, at least 1."""
    denoising_strength: float
    sampler: str
    scheduler: str
    cfg_scale: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for all drawings of a batch. Drawings with equal plans may run together."""

    width: int
    """Pixels; a multiple of `ImageModelInfo.size_multiple`. Of the first pass."""
    height: int
    steps: int
    """As asked for. From an image, `steps * denoising_strength` of them are done, at least 1
    (none at strength 0)."""
    cfg_scale: float
    """1 and less is without guidance: the negative prompt has no say."""
    sampler: str
    """Canonical name, one of `ImageModelInfo.samplers`."""
    scheduler: str
    """Canonical name, one of `ImageModelInfo.schedulers`; `automatic` is the sampler's own."""
    mode: Mode = Mode.TEXT
    denoising_strength: float = 1.0
    """How much of the initial image is drawn anew."""
    latent_resize: bool = False
    """Whether initial images are of another size and are scaled in latent space."""
    fill: Fill = Fill.PIXELS
    clip_skip: int = 1
    """Layers of the text encoder to stop before its end, plus one."""
    tiling: bool = False
    prompt_pieces: int = 1
    """The most pieces in which one of a drawing's prompts is read."""
    tuning: Tuning = field(default_factory=Tuning)
    hires: HiresPlan | None = None


@dataclass(frozen=True, slots=True)
class Variation:
    """Noise of a second seed, mixed (slerp) into that of the first."""

    subseed: int
    strength: float
    width: int = 0
    """Pixels at which the noise is drawn, then centred in the image's own; 0 is the image's own."""
    height: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One image that is wanted."""

    prompt: str
    negative_prompt: str
    seed: int
    """In [0, 2^53). All randomness of this image comes from it (and from `variation`), so that the
    image is the same whatever it is drawn together with."""
    variation: Variation | None = None
    initial: Image.Image | None = None
    """RGB, of the plan's size (of its own with `latent_resize`); with a mode that has one."""
    mask: Image.Image | None = None
    """Mode L, of the plan's size; white is drawn anew, grey in part. With INPAINT."""
    weighs_words: bool = False
    """Whether brackets in its prompts are read as `services.image.prompts` does."""
    hires_prompt: str = ""
    """Of the second pass; the caller has put in `prompt` where none was given."""
    hires_negative_prompt: str = ""


class Look(Protocol):
    """How a batch looks after a step. Good only until the watch that got it returns."""

    def preview(self, row: int) -> Image.Image:
        """A cheap RGB picture of one drawing, from its latents: about one pixel for each."""
        ...

    def picture(self, row: int) -> Image.Image:
        """One drawing, decoded in full size as it is now; costs as much as decoding does."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a batch is."""

    step: int
    """Denoising steps done, 1 after the first; over both passes."""
    step_count: int
    """Denoising steps that will be done, over both passes."""


Watch = Callable[[Stage, Look], bool]
"""Is called after every denoising step, on the engine's thread. Says whether to go on: at False the
engine gives the batch up within that step."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch."""

    pictures: Sequence[Image.Image]
    """RGB (RGBA where the model draws transparency), in the order of the drawings."""
    denoise_s: float
    """Seconds in text encoder and denoiser."""
    decode_s: float
    """Seconds in the VAE."""


@dataclass(frozen=True, slots=True)
class ImageModelInfo:
    """What the engine is and can do; fixed while it lives."""

    name: str
    """`diffusers`, `echo`, …"""
    device: str
    dtype: str
    build: str
    """Identifies weights, libraries, and whatever else decides the bytes of pictures, such as the
    make of the device; part of the fingerprint."""
    family: str
    """Pipeline class, such as `StableDiffusionPipeline`."""
    parameter_count: int
    weights_sha256: str
    """Of the denoiser's weights, hexadecimal; for a file of shards, of their concatenation."""
    filename: str
    """Name of the folder or file, without the path to it."""
    width: int
    """The model's own size in pixels."""
    height: int
    size_multiple: int
    samplers: frozenset[str]
    """Canonical names that this model can use (`services.image.samplers`)."""
    schedulers: frozenset[str]
    default_sampler: str
    upscalers: frozenset[str]
    """Of the second pass: `Latent`, `Latent (nearest)`, `Lanczos`, …"""
    modes: frozenset[Mode]
    max_clip_skip: int = 1
    """1: it can't skip layers."""
    max_prompt_tokens: int = 0
    """Most tokens of a piece of a prompt, without special ones; 0 is any number."""
    max_prompt_pieces: int = 1
    weighs_words: bool = False
    negative_prompt: bool = True
    """With true classifier-free guidance."""
    tiling: bool = False
    variation: bool = True
    transparency: bool = False
    tuning: frozenset[str] = frozenset()
    """Fields of `Tuning` that some sampler of this model honours; see `refusal`."""
    max_batch: int = 1
    """Most drawings of different calls that run together and still come out as each would alone,
    to the byte (or, where the settings allow near-equality, as fast as pays)."""


@dataclass(frozen=True, slots=True)
class PromptLength:
    """How long a prompt is, in tokens without special ones, and in pieces that are read."""

    tokens: int
    pieces: int = 1


class ImageModel(Protocol):
    """Draws with one model."""

    @property
    def info(self) -> ImageModelInfo:
        """What it is."""
        ...

    def refusal(self, plan: Plan) -> tuple[str, str] | None:
        """Why sampler, schedule and model together can't draw a plan, as (field of `ImageRequest`,
        sentence); None when they can."""
        ...

    def memory_bytes(self, plan: Plan, count: int) -> int:
        """About how much memory a batch of `count` drawings takes beside the weights."""
        ...

    def measure(self, text: str, *, weighs_words: bool = False) -> PromptLength:
        """How long a prompt is, however much of it is read. Thread-safe."""
        ...

    async def draw(self, plan: Plan, drawings: Sequence[Drawing], watch: Watch) -> Drawn | None:
        """Draws a batch, off the event loop; None when the watch gave it up.

        One batch runs at a time; a second call waits for the first. Cancelling the call gives the
        batch up at its next step. An exception of the watch ends the batch and is raised here.

        Raises:
            FailedPrecondition: memory ran out; the message says what to ask for less of.
            Unavailable: the engine is closing or has stopped.
        """
        ...

    async def probe(self) -> None:
        """Draws one real step and decodes it; raises when the model can't draw."""
        ...

    async def close(self) -> None:
        """Frees the device and ends its thread; what still runs fails with `Unavailable`."""
        ...


@runtime_checkable
class TellsFreeMemory(Protocol):
    """A model on a device whose free memory only its engine can tell."""

    def free_memory_bytes(self) -> int:
        """Memory that drawings can take now. From any thread; costs nothing to speak of."""
        ...


@dataclass(frozen=True, slots=True)
class ImageModelSpec:
    """What is to be loaded."""

    model: str
    """The model's ID."""
    revision: str
    source: Path
    dtype: str = "auto"


class ImageModelLoader(Protocol):
    """Loads models with one kind of engine."""

    async def load(self, spec: ImageModelSpec, progress: Callable[[float], None]) -> ImageModel:
        """Loads off the event loop and reports its share done, in [0, 1].

        Raises:
            FailedPrecondition: the folder is missing, broken, not safetensors, of a pipeline that
                is not known, or wants remote code; the message says which and what to do.
        """
        ...

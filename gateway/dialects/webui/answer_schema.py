"""Answers of the WebUI's API, of `/generate-image`, and their errors."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.dialects.webui.schema import Img2ImgRequest, Txt2ImgRequest

Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
JsonText = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/json"})]


class WebuiErrorDetail(msgspec.Struct):
    """What went wrong."""

    code: str
    message: str
    details: str


class WebuiError(msgspec.Struct):
    """Body of an error."""

    error: WebuiErrorDetail


class Txt2ImgAnswer(msgspec.Struct):
    """Body of the answer of `POST /sdapi/v1/txt2img`."""

    images: list[Base64]
    parameters: Txt2ImgRequest
    info: JsonText


class Img2ImgAnswer(msgspec.Struct):
    """Body of the answer of `POST /sdapi/v1/img2img`."""

    images: list[Base64]
    parameters: Img2ImgRequest
    info: JsonText


class GeneratedImage(msgspec.Struct):
    """Body of the answer of `POST /generate-image`."""

    image_base64: Base64
    info: JsonText


class SamplerItem(msgspec.Struct):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(msgspec.Struct):
    """A sigma schedule."""

    name: str
    label: str
    aliases: list[str]
    default_rho: float
    need_inner_model: bool


class CheckpointItem(msgspec.Struct):
    """An image model."""

    title: str
    model_name: str
    hash: str
    sha256: str
    filename: str
    config: str | None


class UpscalerItem(msgspec.Struct):
    """A way to enlarge pictures."""

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float = 4.0


class LatentMode(msgspec.Struct):
    """A way to enlarge latents."""

    name: str


class ProgressState(msgspec.Struct):
    """What is being drawn."""

    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str
    job_count: int
    job_timestamp: str
    job_no: int
    sampling_step: int
    sampling_steps: int


class ProgressAnswer(msgspec.Struct):
    """Body of the answer of `GET /sdapi/v1/progress`."""

    progress: float
    eta_relative: float
    state: ProgressState
    current_image: Base64 | None
    textinfo: str | None
    current_task: str | None


class TaskProgressAnswer(msgspec.Struct):
    """Body of the answer of `POST /internal/progress`."""

    active: bool
    queued: bool
    completed: bool
    paused: bool = False
    progress: float | None = None
    eta: float | None = None
    """Seconds."""
    live_preview: str | None = None
    """A `data:` URL."""
    id_live_preview: int = -1
    textinfo: str | None = None


class PngInfo(msgspec.Struct):
    """Body of the answer of `POST /sdapi/v1/png-info`."""

    info: str
    items: dict[str, str]
    parameters: dict[str, str]


class ScriptNames(msgspec.Struct):
    """Body of the answer of `GET /sdapi/v1/scripts`."""

    txt2img: list[str]
    img2img: list[str]


class TextualInversions(msgspec.Struct):
    """Body of the answer of `GET /sdapi/v1/embeddings`."""

    loaded: dict[str, Any]
    skipped: dict[str, Any]


class RamState(msgspec.Struct):
    """Memory of the edge's machine, in bytes."""

    free: float
    used: float
    total: float


class Memory(msgspec.Struct):
    """Body of the answer of `GET /sdapi/v1/memory`."""

    ram: RamState
    cuda: dict[str, str]


class Nothing(msgspec.Struct):
    """An object without fields."""

"""Images, as OpenAI documents them, and the extensions of local servers.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.dialects.openai.schema import AnyJson, Share, Text512

Prompt = Annotated[str, Meta(min_length=1, max_length=32000)]
NegativePrompt = Annotated[str, Meta(max_length=32000)]
ModelId = Annotated[str, Meta(max_length=256)]
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
ResultQuality = Literal["low", "medium", "high", "xhigh", "max"]
FileFormat = Literal["png", "jpeg", "webp"]
File = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]
"""A part of a form that is a file. Only the description of the API knows it."""


class ImageOptions(msgspec.Struct, kw_only=True):
    """What every request for images may say. From `seed` on it is local servers' own."""

    model: ModelId | None = None
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: Annotated[str, Meta(max_length=32)] | None = None
    quality: Quality | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: FileFormat | None = None
    output_compression: Annotated[int, Meta(ge=0, le=100)] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=3)] | None = None
    user: Text512 | None = None
    safety_identifier: Text512 | None = None
    complexity: AnyJson = msgspec.UNSET
    frame_count: AnyJson = msgspec.UNSET
    frame_duration_ms: AnyJson = msgspec.UNSET
    svg: AnyJson = msgspec.UNSET
    seed: Annotated[int, Meta(ge=-1, le=2**53 - 1)] | None = None
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=100)] | None = None
    negative_prompt: NegativePrompt | None = None


class ImageGeneration(ImageOptions, kw_only=True):
    """Body of `POST /v1/images/generations`. `style` and `moderation` change nothing."""

    prompt: Prompt
    style: AnyJson = msgspec.UNSET
    moderation: AnyJson = msgspec.UNSET


class ImageEditOptions(ImageOptions, kw_only=True):
    """What `POST /v1/images/edits` takes beside images. `strength` is ours: how much is new."""

    prompt: Prompt
    input_fidelity: Literal["low", "high"] | None = None
    moderation: AnyJson = msgspec.UNSET
    markup: AnyJson = msgspec.UNSET
    strength: Share | None = None


class ImageReference(msgspec.Struct, kw_only=True):
    """An image in JSON: a `data:` URL, or the ID of an uploaded file."""

    image_url: str | None = None
    file_id: str | None = None


class ImageEdit(ImageEditOptions, kw_only=True):
    """Body of `POST /v1/images/edits` as JSON."""

    images: Annotated[list[ImageReference], Meta(min_length=1, max_length=16)]
    mask: ImageReference | None = None


class ImageEditForm(ImageEditOptions, kw_only=True):
    """Body of `POST /v1/images/edits` as a form. `image[]` is taken too."""

    image: File
    mask: File | None = None


class ImageVariationOptions(ImageOptions, kw_only=True):
    """What `POST /v1/images/variations` takes beside its image."""

    strength: Share | None = None


class ImageVariationForm(ImageVariationOptions, kw_only=True):
    """Body of `POST /v1/images/variations`, a form."""

    image: File


class GeneratedImage(msgspec.Struct):
    """One image: its file in base64."""

    b64_json: str


class ImageInputTokens(msgspec.Struct):
    """What the input tokens were."""

    text_tokens: int
    image_tokens: int


class ImageUsage(msgspec.Struct):
    """Token counts. Pictures are not counted in tokens."""

    total_tokens: int
    input_tokens: int
    output_tokens: int
    input_tokens_details: ImageInputTokens


class ImageList(msgspec.Struct):
    """Body of the answers of `POST /v1/images/...`."""

    created: int
    data: list[GeneratedImage]
    background: Literal["opaque", "transparent"]
    output_format: FileFormat
    size: str
    quality: ResultQuality
    usage: ImageUsage

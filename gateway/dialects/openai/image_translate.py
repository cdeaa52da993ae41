"""Requests for images, translated for the image service. No I/O.

An edit with a mask draws the whole picture anew and keeps what the mask keeps: the prompt describes
the whole picture, not the hole. Without a mask, and in a variation, the picture is the start.
"""

import re
from collections.abc import Mapping, Sequence

from penstock.image.v1 import image_pb2

from gateway.dialects.openai import image_schema as schema
from gateway.dialects.openai.fields import Rule, Spelling, spelling
from gateway.errors import invalid, unsupported
from gateway.raw_json import raw_json

_STEPS: Mapping[schema.Quality, int | None] = {
    "auto": None,  # the model knows best; 20 when it doesn't say
    "low": 12,
    "medium": 24,
    "standard": 24,
    "high": 40,
    "hd": 40,
    "xhigh": 60,
    "max": 80,
}
_FAITHFUL = 0.5
"""How much of a picture is drawn anew when an edit asks for high fidelity."""
_VARIED = 0.6
"""How much of a picture is drawn anew in a variation: its layout stays, its details don't."""
_LARGEST = 16384

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_FORMATS: Mapping[schema.FileFormat, image_pb2.OutputFormat.ValueType] = {
    "png": image_pb2.OUTPUT_FORMAT_PNG,
    "jpeg": image_pb2.OUTPUT_FORMAT_JPEG,
    "webp": image_pb2.OUTPUT_FORMAT_WEBP,
}
_BACKGROUNDS: Mapping[str, image_pb2.Background.ValueType] = {
    "auto": image_pb2.BACKGROUND_UNSPECIFIED,
    "opaque": image_pb2.BACKGROUND_OPAQUE,
    "transparent": image_pb2.BACKGROUND_TRANSPARENT,
}
_NOT_HERE = (
    ("complexity", "models here draw without a plan; use quality or steps"),
    ("frame_count", "only still pictures are drawn"),
    ("frame_duration_ms", "only still pictures are drawn"),
    ("svg", "pictures are drawn as png, jpeg or webp"),
)
_RULES: Sequence[Rule] = tuple(
    (re.compile(pattern), spelled)
    for pattern, spelled in (
        (r"^(width|height)$", "size"),
        (r"^(batch_size|batch_count)$", "n"),
        (r"^cfg_scale$", "guidance_scale"),
        (r"^quality$", "output_compression"),
        (r"^denoising_strength$", "strength"),
        (r"^partial_image_count$", "partial_images"),
    )
)


def to_generation(body: schema.ImageGeneration) -> image_pb2.ImageRequest:
    """Translates a request to draw from a text.

    Raises:
        ProblemError: a field can't be honoured.
    """
    request = _request(body)
    request.prompt = body.prompt
    return request


def to_edit(
    body: schema.ImageEditOptions, image: bytes, mask: bytes | None
) -> image_pb2.ImageRequest:
    """Translates a request to change a picture; of the mask, white is drawn anew.

    Raises:
        ProblemError: a field can't be honoured.
    """
    if raw_json(body.markup):
        raise unsupported("markup", "say it in the prompt, or send a mask")
    request = _request(body)
    request.prompt = body.prompt
    request.init_images.append(image)
    if body.strength is not None:
        request.denoising_strength = body.strength
    elif body.input_fidelity == "high":
        request.denoising_strength = _FAITHFUL
    elif mask is not None:
        request.denoising_strength = 1.0  # what lies under a hole is no start
    if mask is not None:
        request.inpainting.mask = mask
        request.inpainting.full_resolution = False
    return request


def to_variation(body: schema.ImageVariationOptions, image: bytes) -> image_pb2.ImageRequest:
    """Translates a request to vary a picture.

    Raises:
        ProblemError: a field can't be honoured.
    """
    if body.stream:
        raise unsupported("stream", "variations are not streamed; use /v1/images/edits")
    request = _request(body)
    request.init_images.append(image)
    request.denoising_strength = _VARIED if body.strength is None else body.strength
    return request


def image_spelling(
    body: schema.ImageOptions, image_field: str = "image", mask_field: str = "mask"
) -> Spelling:
    """The spelling of fields for one request; pictures are in the fields that are named here."""
    rules: list[Rule] = [
        *_RULES,
        (re.compile(r"^init_images.*$"), image_field),
        (re.compile(r"^inpainting.*$"), mask_field),
    ]
    if body.steps is None and body.quality is not None:
        rules.append((re.compile(r"^steps$"), "quality"))
    return spelling(rules, "prompt")


def check_only_one(images: Sequence[object], field: str) -> None:
    """Checks that nothing stands beside the picture: models here know no references.

    Raises:
        ProblemError: there are several pictures.
    """
    if len(images) > 1:
        raise invalid(
            f"Invalid '{field}': {len(images)} images. Models here change one image: send one.",
            field,
            "array_above_max_length",
        )


def _request(body: schema.ImageOptions) -> image_pb2.ImageRequest:
    for name, why in _NOT_HERE:
        if raw_json(getattr(body, name)):
            raise unsupported(name, why)
    if body.response_format == "url":
        raise unsupported("response_format", "images come as b64_json, there is no store of files")
    if body.partial_images and not body.stream:
        raise invalid(
            "Invalid 'partial_images': partial images are streamed. Set stream, or leave it 0.",
            "partial_images",
        )
    file_format = body.output_format or "png"
    if body.output_compression not in (None, 100) and file_format == "png":
        raise invalid(
            "Invalid 'output_compression': PNG is lossless. Ask for jpeg or webp, or leave it 100.",
            "output_compression",
        )
    if body.background == "transparent" and file_format == "jpeg":
        raise invalid(
            "Invalid 'background': JPEG has no transparency. Ask for png or webp.", "background"
        )
    width, height = _size(body.size)
    return image_pb2.ImageRequest(
        model=body.model or "",
        negative_prompt=body.negative_prompt or "",
        width=width,
        height=height,
        steps=body.steps or _STEPS[body.quality or "auto"],
        cfg_scale=body.guidance_scale,
        seed=body.seed,
        batch_size=body.n,
        background=_BACKGROUNDS[body.background or "auto"],
        output_format=_FORMATS[file_format],
        quality=body.output_compression,
        partial_image_count=body.partial_images,
        user=body.safety_identifier or body.user or "",
    )


def _size(size: str | None) -> tuple[int | None, int | None]:
    if not size or size == "auto":
        return None, None
    match = _SIZE.fullmatch(size)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not match or width % 8 or height % 8 or max(width, height) > _LARGEST:
        raise invalid(
            f"Invalid 'size': '{size}'. Expected auto, or WIDTHxHEIGHT in pixels, both multiples "
            f"of 8 and at most {_LARGEST}, such as 512x512.",
            "size",
        )
    return width, height

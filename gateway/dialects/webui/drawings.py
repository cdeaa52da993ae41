"""Gathers what the image service draws, and renders it."""

import binascii
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec
from google.protobuf import struct_pb2
from penstock.image.v1 import image_pb2, progress_pb2

from gateway.dialects.webui.schema import DrawingFields, Img2ImgRequest, Txt2ImgRequest
from gateway.errors import Problem, ProblemError
from gateway.holding import Held, Holder

Body = TypeVar("Body", bound=DrawingFields)

_MOST_BYTES = 512 * 1024 * 1024
"""Largest answer; it is held, mostly in files, until the last image is there."""

_DEFAULTS: Mapping[str, object] = {
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "s_min_uncond": 0.0,
    "disable_extra_networks": False,
    "enable_hr": False,
    "hr_scale": 2.0,
    "resize_mode": 0,
    "mask_blur": 4,
    "inpainting_fill": 0,
    "inpaint_full_res": True,
    "inpaint_full_res_padding": 0,
    "inpainting_mask_invert": 0,
    "initial_noise_multiplier": 1.0,
    "include_init_images": False,
}
"""What is told of fields that were left open and that the service doesn't tell."""

_DECIMALS = frozenset({"cfg_scale", "denoising_strength", "subseed_strength"})


class Drawings:
    """Gathers the events of a job. Without `keep`, only how it went is kept."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._holder = Holder()
        self._images: dict[int, Held] = {}
        self._size = 0
        self.finish: progress_pb2.ImageFinish | None = None

    def add(self, event: progress_pb2.ImageEvent) -> None:
        """Takes an event.

        Raises:
            ProblemError: the images are too large together.
        """
        kind = event.WhichOneof("event")
        if kind == "finish":
            self.finish = event.finish
        elif kind == "image" and self._keep:
            data = binascii.b2a_base64(event.image.data, newline=False)
            self._size += len(data)
            if self._size > _MOST_BYTES:
                message = "The images are too large together. Ask for fewer at once."
                raise ProblemError(Problem("MESSAGE_TOO_LARGE", message))
            self._images[event.image.index] = self._holder.hold(data)

    @property
    def images(self) -> list[Held]:
        """The images in base64, by index."""
        return [self._images[index] for index in sorted(self._images)]

    def answer(self, body: DrawingFields) -> Iterator[Held]:
        """Renders the whole answer, in pieces."""
        finish = self._finished()
        yield b'{"images":['
        quote = b'"'
        for image in self.images:
            yield quote
            yield image
            quote = b'","'
        yield b'"]' if self._images else b"]"
        yield b',"parameters":' + msgspec.json.encode(effective(body, finish.effective_request))
        yield b',"info":' + msgspec.json.encode(info_of(finish)) + b"}"

    def only(self) -> Iterator[Held]:
        """Renders the answer for one image.

        Raises:
            ProblemError: the job was interrupted before there was one.
        """
        if not self._images:
            message = "The drawing was interrupted before there was an image. Try again."
            raise ProblemError(Problem("CANCELLED", message))
        yield b'{"image_base64":"'
        yield self.images[0]
        yield b'","info":' + msgspec.json.encode(info_of(self._finished())) + b"}"

    def _finished(self) -> progress_pb2.ImageFinish:
        assert self.finish is not None, "the job has not ended"
        return self.finish


def info_of(finish: progress_pb2.ImageFinish) -> str:
    """Renders the WebUI's `info`, JSON inside of a text."""
    return msgspec.json.encode(_object(finish.info)).decode()


def effective(body: Body, request: image_pb2.ImageRequest) -> Body:
    """A request with what it was really drawn with. Images are left out unless wished for."""
    variation = request.variation
    open_fields: dict[str, object] = {
        name: value
        for name, value in _DEFAULTS.items()
        if name in body.__struct_fields__ and getattr(body, name) is None
    }
    changes: dict[str, object] = {
        **open_fields,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seed": request.seed,
        "subseed": variation.subseed if variation.HasField("subseed") else _or(body.subseed, -1),
        "subseed_strength": variation.strength,
        "seed_resize_from_w": _or(body.seed_resize_from_w, 0),
        "seed_resize_from_h": _or(body.seed_resize_from_h, 0),
        "sampler_name": request.sampler,
        "sampler_index": request.sampler,
        "scheduler": request.scheduler,
        "batch_size": request.batch_size,
        "n_iter": request.batch_count,
        "steps": request.steps,
        "cfg_scale": _digits(request.cfg_scale),
        "width": request.width,
        "height": request.height,
        "tiling": request.tiling,
        "restore_faces": False,
        "styles": [],
        "do_not_save_samples": bool(body.do_not_save_samples),
        "do_not_save_grid": bool(body.do_not_save_grid),
        "save_images": False,
        "send_images": _or(body.send_images, True),
        "override_settings": body.override_settings or {},
        "override_settings_restore_afterwards": True,
        "alwayson_scripts": {},
        "script_args": msgspec.Raw(b"[]"),
        "script_name": None,
    }
    if isinstance(body, Txt2ImgRequest):
        if body.enable_hr:
            changes |= _effective_hires(request.hires)
    elif isinstance(body, Img2ImgRequest):
        changes["denoising_strength"] = _digits(request.denoising_strength)
        if not body.include_init_images:
            changes |= {"init_images": None, "mask": None}
        if body.mask:
            changes |= _effective_mask(request.inpainting)
    return msgspec.structs.replace(body, **changes)


def _effective_hires(hires: image_pb2.Hires) -> dict[str, object]:
    return {
        "denoising_strength": _digits(hires.denoising_strength),
        "hr_resize_x": hires.width,
        "hr_resize_y": hires.height,
        "hr_upscaler": hires.upscaler,
        "hr_second_pass_steps": hires.steps,
        "hr_sampler_name": hires.sampler or None,
        "hr_scheduler": hires.scheduler or None,
        "hr_cfg": _digits(hires.cfg_scale) if hires.HasField("cfg_scale") else None,
        "hr_prompt": hires.prompt,
        "hr_negative_prompt": hires.negative_prompt,
    }


def _effective_mask(inpainting: image_pb2.Inpainting) -> dict[str, object]:
    return {
        "mask_blur": inpainting.blur_pixels,
        "inpaint_full_res": inpainting.full_resolution,
        "inpaint_full_res_padding": inpainting.padding_pixels,
        "inpainting_mask_invert": int(inpainting.invert_mask),
    }


def _object(struct: struct_pb2.Struct) -> dict[str, object]:
    """A struct has no order of its own."""
    return {name: _json(struct.fields[name], name) for name in sorted(struct.fields)}


def _json(value: struct_pb2.Value, name: str = "") -> object:
    """Whole numbers are told as such: all numbers of a `Value` are floats."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if name in _DECIMALS:
                return _digits(number)
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [_json(item, name) for item in value.list_value.values]
        case "struct_value":
            return _object(value.struct_value)
        case _:
            return None


Value = TypeVar("Value")


def _or(value: Value | None, otherwise: Value) -> Value:
    return otherwise if value is None else value


def _digits(value: float) -> float:
    """The shortest decimal that is the same float32: 7.3 and not 7.300000190734863."""
    return float(f"{value:.7g}")

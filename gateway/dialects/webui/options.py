"""The WebUI's options, translated into those of the image service. No I/O."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from google.protobuf import field_mask_pb2
from penstock.image.v1 import image_pb2, sampler_pb2
from penstock.image.v1 import image_service_pb2 as service_pb2

from gateway.dialects.webui.checkpoints import model_of, title_of
from gateway.dialects.webui.option_schema import FIXED, NAMES, OptionValues
from gateway.dialects.webui.refusals import unsupported
from gateway.errors import Problem, ProblemError, invalid
from gateway.validation import decode

PREVIEW_INTERVAL = 10
"""Steps between previews when nobody said anything: the WebUI's own."""

QUALITY = 100
"""What JPEG and WebP are written with when a request doesn't say."""

_OWN_VAE = ("", "automatic", "none")
_LONGEST_SHOWN = 64
_FORMATS: Mapping[str, "image_pb2.OutputFormat.ValueType"] = {
    "png": image_pb2.OUTPUT_FORMAT_PNG,
    "jpg": image_pb2.OUTPUT_FORMAT_JPEG,
    "jpeg": image_pb2.OUTPUT_FORMAT_JPEG,
    "webp": image_pb2.OUTPUT_FORMAT_WEBP,
}
_EXTENSIONS = {_FORMATS[name]: name for name in ("png", "jpg", "webp")}
_DECODER = msgspec.json.Decoder(OptionValues)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What options ask for; None where they say nothing."""

    checkpoint: str | None = None
    second_checkpoint: str | None = None
    """That of the second pass: no option, but checkpoints have to be known to tell what it is."""
    vae: str | None = None
    clip_skip: int | None = None
    output_format: "image_pb2.OutputFormat.ValueType | None" = None
    quality: int | None = None
    preview_interval: int | None = None
    previews: bool | None = None


def wishes_of(values: Mapping[str, Any], path: str = "") -> Wishes:
    """Reads options; `path` is the field that they stand in.

    Raises:
        ProblemError: one is unknown, of the wrong type, or has a value that means nothing here.
    """
    prefix = f"{path}." if path else ""
    for name, value in values.items():
        if name not in NAMES and value is not None:
            raise _unknown(name, prefix)
    try:
        options = decode(_DECODER, msgspec.json.encode(values))
    except ProblemError as error:
        raise ProblemError(_inside(error.problem, prefix)) from None
    for name, neutral in FIXED.items():
        value = getattr(options, name)
        if value is not None and value != neutral:
            raise unsupported(
                prefix + name, f"it is always {msgspec.json.encode(neutral).decode()}"
            )
    every = options.show_progress_every_n_steps
    vae = options.sd_vae
    return Wishes(
        checkpoint=options.sd_model_checkpoint or options.sd_checkpoint_hash or None,
        vae=None if vae is None else "" if vae.casefold() in _OWN_VAE else vae,
        clip_skip=options.CLIP_stop_at_last_layers,
        output_format=_format(options.samples_format, prefix),
        quality=options.jpeg_quality,
        preview_interval=None if every is None else max(every, 0),
        previews=options.live_previews_enable,
    )


def to_set_options(
    wishes: Wishes, checkpoints: Sequence[sampler_pb2.Checkpoint], now: sampler_pb2.Options
) -> service_pb2.SetOptionsRequest | None:
    """Translates changed options; None when nothing changes.

    Raises:
        ProblemError: an option can only be set for one request.
    """
    if wishes.quality not in (None, QUALITY):
        raise unsupported("jpeg_quality", "set it in override_settings of a request")
    options = sampler_pb2.Options()
    paths: list[str] = []
    if wishes.checkpoint is not None:
        options.model = model_of(wishes.checkpoint, checkpoints)
        paths.append("model")
    if wishes.vae is not None:
        options.vae = wishes.vae
        paths.append("vae")
    if wishes.clip_skip is not None:
        options.clip_skip = wishes.clip_skip
        paths.append("clip_skip")
    if wishes.output_format is not None:
        options.output_format = wishes.output_format
        paths.append("output_format")
    interval = preview_interval(wishes, now)
    if interval is not None:
        options.preview_interval_steps = interval
        paths.append("preview_interval_steps")
    if not paths:
        return None
    mask = field_mask_pb2.FieldMask(paths=paths)
    return service_pb2.SetOptionsRequest(options=options, update_mask=mask)


def preview_interval(wishes: Wishes, now: sampler_pb2.Options) -> int | None:
    """The steps between previews that options ask for; None when they leave them as they are."""
    if wishes.previews is False:
        return 0
    if wishes.preview_interval is not None:
        return wishes.preview_interval
    if wishes.previews is True and not shown_interval(now):
        return PREVIEW_INTERVAL
    return None


def shown_interval(options: sampler_pb2.Options) -> int:
    """The steps between previews of requests that say nothing; 0 is none."""
    if options.HasField("preview_interval_steps"):
        return options.preview_interval_steps
    return PREVIEW_INTERVAL


def options_answer(
    options: sampler_pb2.Options, checkpoints: Sequence[sampler_pb2.Checkpoint]
) -> OptionValues:
    """Renders the options."""
    title, sha256 = title_of(options.model, checkpoints)
    interval = shown_interval(options)
    answer = OptionValues(
        sd_model_checkpoint=title,
        sd_checkpoint_hash=sha256,
        sd_vae=options.vae or "Automatic",
        CLIP_stop_at_last_layers=options.clip_skip or 1,
        samples_format=_EXTENSIONS.get(options.output_format, "png"),
        jpeg_quality=QUALITY,
        show_progress_every_n_steps=interval or -1,
        live_previews_enable=interval > 0,
    )
    for name, value in FIXED.items():
        setattr(answer, name, value)
    return answer


def _format(name: str | None, prefix: str) -> "image_pb2.OutputFormat.ValueType | None":
    if name is None:
        return None
    known = _FORMATS.get(name.casefold())
    if known is None:
        path = f"{prefix}samples_format"
        raise invalid(f"Invalid '{path}': supported are {', '.join(_FORMATS)}.", path)
    return known


def _unknown(name: str, prefix: str) -> ProblemError:
    shown = name[:_LONGEST_SHOWN]
    near = difflib.get_close_matches(shown, NAMES, 1)
    known = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(NAMES)}."
    message = f"Unsupported option '{prefix}{shown}'. {known}"
    return ProblemError(Problem("UNSUPPORTED_PARAMETER", message, param=prefix + shown))


def _inside(problem: Problem, prefix: str) -> Problem:
    if not problem.param or not prefix:
        return problem
    param = prefix + problem.param
    message = problem.message.replace(f"'{problem.param}'", f"'{param}'", 1)
    return replace(problem, param=param, message=message)

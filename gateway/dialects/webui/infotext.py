"""Reads an infotext, the WebUI's words for how an image was drawn, into fields of a request."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_KEY = re.compile(r"\w[\w \-/]{0,63}")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})(?:e[+-]?\d{1,3})?", re.IGNORECASE)
_QUOTED = json.JSONDecoder(strict=False)
_NEGATIVE = "Negative prompt:"
_FEWEST = 3
"""A last line with fewer entries belongs to the prompt."""

_FILLS = ("fill", "original", "latent noise", "latent nothing")


def _text(value: str) -> object:
    return value


def _number(value: str) -> object:
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _NUMBER.fullmatch(value) else value  # the schema says what is wrong


def _true(value: str) -> object:
    return value.casefold() not in ("", "false", "none")


_FIELDS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "Steps": ("steps", _number),
    "Sampler": ("sampler_name", _text),
    "Schedule type": ("scheduler", _text),
    "CFG scale": ("cfg_scale", _number),
    "Seed": ("seed", _number),
    "Denoising strength": ("denoising_strength", _number),
    "Variation seed": ("subseed", _number),
    "Variation seed strength": ("subseed_strength", _number),
    "Tiling": ("tiling", _true),
    "Face restoration": ("restore_faces", _true),
    "Eta": ("eta", _number),
    "Eta DDIM": ("eta", _number),
    "NGMS": ("s_min_uncond", _number),
    "Sigma churn": ("s_churn", _number),
    "Sigma tmin": ("s_tmin", _number),
    "Sigma tmax": ("s_tmax", _number),
    "Sigma noise": ("s_noise", _number),
    "Refiner": ("refiner_checkpoint", _text),
    "Refiner switch at": ("refiner_switch_at", _number),
    "Hires upscale": ("hr_scale", _number),
    "Hires upscaler": ("hr_upscaler", _text),
    "Hires steps": ("hr_second_pass_steps", _number),
    "Hires checkpoint": ("hr_checkpoint_name", _text),
    "Hires sampler": ("hr_sampler_name", _text),
    "Hires schedule type": ("hr_scheduler", _text),
    "Hires CFG Scale": ("hr_cfg", _number),
    "Hires prompt": ("hr_prompt", _text),
    "Hires negative prompt": ("hr_negative_prompt", _text),
    "Mask blur": ("mask_blur", _number),
    "Masked area padding": ("inpaint_full_res_padding", _number),
    "Noise multiplier": ("initial_noise_multiplier", _number),
}
_SIZES = {
    "Size": ("width", "height"),
    "Hires resize": ("hr_resize_x", "hr_resize_y"),
    "Seed resize from": ("seed_resize_from_w", "seed_resize_from_h"),
}
_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "Clip skip": ("CLIP_stop_at_last_layers", _number),
    "VAE": ("sd_vae", _text),
    "ENSD": ("eta_noise_seed_delta", _number),
    "Conditional mask weight": ("inpainting_mask_weight", _number),
    "Token merging ratio": ("token_merging_ratio", _number),
    "Token merging ratio hr": ("token_merging_ratio_hr", _number),
}
_UNSAID: Mapping[str, str] = {
    "Clip skip": "1",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
}
"""What it means that an infotext doesn't say these: no default of requests is meant."""
_HIRES = frozenset({"Hires upscale", "Hires upscaler", "Hires resize"})


def fields_of(infotext: str) -> dict[str, Any]:
    """Reads what an infotext says of the fields of a request, `override_settings` among them.

    What only tells about the image, such as its version, says nothing.
    """
    prompt, negative, entries = _parts(infotext)
    if entries:
        entries = {**_UNSAID, **entries}
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if prompt:
        fields["prompt"] = prompt
    if negative:
        fields["negative_prompt"] = negative
    for key, value in entries.items():
        size = _SIZE.fullmatch(value)
        if key in _FIELDS:
            name, read = _FIELDS[key]
            fields[name] = read(value)
        elif key in _SIZES and size is not None:
            fields.update(zip(_SIZES[key], map(int, size.groups()), strict=True))
        elif key in _OPTIONS:
            name, read = _OPTIONS[key]
            options[name] = read(value)
        elif key == "Masked content" and value in _FILLS:
            fields["inpainting_fill"] = _FILLS.index(value)
        elif key == "Inpaint area":
            fields["inpaint_full_res"] = value == "Only masked"
        elif key == "Mask mode":
            fields["inpainting_mask_invert"] = int(value == "Inpaint not masked")
    if not _HIRES.isdisjoint(entries):
        fields["enable_hr"] = True
    checkpoint = _checkpoint(entries)
    if checkpoint:
        options["sd_model_checkpoint"] = checkpoint
    if options:
        fields["override_settings"] = options
    return fields


def _checkpoint(entries: Mapping[str, str]) -> str:
    name, short_hash = entries.get("Model", ""), entries.get("Model hash", "")
    return f"{name} [{short_hash}]" if name and short_hash else name or short_hash


def _parts(infotext: str) -> tuple[str, str, dict[str, str]]:
    """Takes an infotext apart: prompt, negative prompt, entries of the last line."""
    *lines, last = infotext.strip().split("\n")
    entries = _entries(last)
    if len(entries) < _FEWEST:
        lines.append(last)
        entries = {}
    prompt: list[str] = []
    negative: list[str] = []
    into = prompt
    for line in map(str.strip, lines):
        if line.startswith(_NEGATIVE):
            into = negative
            line = line.removeprefix(_NEGATIVE).strip()
        into.append(line)
    return "\n".join(prompt), "\n".join(negative), entries


def _entries(line: str) -> dict[str, str]:
    """Reads `Key: value, Key: "quoted, value"`. Every letter is looked at once or twice."""
    entries: dict[str, str] = {}
    position = 0
    while (colon := line.find(":", position)) >= 0:
        # What has no colon before its comma is no entry.
        key = line[line.rfind(",", position, colon) + 1 or position : colon].strip()
        position = colon + 1
        while position < len(line) and line[position] == " ":
            position += 1
        value, position = _value(line, position)
        if _KEY.fullmatch(key):
            entries.setdefault(key, value)
    return entries


def _value(line: str, start: int) -> tuple[str, int]:
    """Reads a value; returns with it where the next entry begins."""
    comma = line.find(",", start)
    if line[start : start + 1] == '"':
        try:
            value, end = _QUOTED.raw_decode(line, start)
        except ValueError:  # it only begins like one that is quoted
            pass
        else:
            comma = line.find(",", end)
            return value, len(line) if comma < 0 else comma + 1
    end = len(line) if comma < 0 else comma
    return line[start:end].strip(), end + 1 if comma >= 0 else end

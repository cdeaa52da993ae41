"""The infotext: what a picture was drawn with, in the words of the WebUI.

    a red circle,
    on blue
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, …

The last line holds the parameters. Values with a comma, a colon or a line break are JSON strings.
What is written is read back exactly, but for one thing that the format leaves open: where a line of
the prompt begins with `Negative prompt:`, the negative prompt is taken to begin.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

NEGATIVE = "Negative prompt:"

Value = str | int | float | bool | None
"""A parameter; None is left out."""

_SIZE = re.compile(r"(\d{1,9})x(\d{1,9})")
_KEY = re.compile(r"\w[\w \-/]*")
_FEWEST = 3
"""Parameters that the last line must hold to be taken for one; else it belongs to the prompt."""

_unquote = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class VariationFacts:
    """How the noise was varied."""

    subseed: int
    strength: float
    width: int = 0
    """At which the noise was drawn; 0 is the picture's own."""
    height: int = 0


@dataclass(frozen=True, slots=True)
class InpaintFacts:
    """How a part was drawn anew."""

    blur_pixels: int
    inverted: bool
    full_resolution: bool
    padding_pixels: int
    masked_content: str = "original"
    """`fill`, `original`, `latent noise` or `latent nothing`."""


@dataclass(frozen=True, slots=True)
class HiresFacts:
    """The second pass. What is empty or None was as in the first and is left out."""

    upscaler: str
    scale: float | None = None
    """Set, or else `width` and `height`."""
    width: int = 0
    height: int = 0
    steps: int = 0
    prompt: str = ""
    negative_prompt: str = ""
    sampler: str = ""
    scheduler: str = ""
    cfg_scale: float | None = None


@dataclass(frozen=True, slots=True)
class TuningFacts:
    """Fine points of the sampler. What is None was the sampler's own and is left out."""

    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    s_min_uncond: float | None = None
    initial_noise_multiplier: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a picture was drawn with. What is empty or None is left out."""

    prompt: str
    negative_prompt: str = ""
    steps: int
    sampler: str
    scheduler: str = ""
    """Its label, such as `Karras`."""
    cfg_scale: float
    seed: int
    width: int
    height: int
    model_hash: str = ""
    """The first ten digits of the checksum, as the WebUI shows it."""
    model: str = ""
    vae: str = ""
    variation: VariationFacts | None = None
    denoising_strength: float | None = None
    clip_skip: int = 1
    """1 is left out."""
    tiling: bool = False
    inpaint: InpaintFacts | None = None
    hires: HiresFacts | None = None
    tuning: TuningFacts = field(default_factory=TuningFacts)
    extra: Mapping[str, Value] = field(default_factory=dict[str, Value])
    """Further parameters, before the version."""
    version: str = ""


def write_infotext(facts: Facts) -> str:
    """Writes the infotext of a picture."""
    lines = [facts.prompt] if facts.prompt else []
    if facts.negative_prompt:
        lines.append(f"{NEGATIVE} {facts.negative_prompt}")
    lines.append(
        ", ".join(
            f"{key}: {_quoted(_shown(value))}"
            for key, value in _parameters(facts)
            if value is not None and value != ""
        )
    )
    return "\n".join(lines)


def parse_infotext(text: str) -> dict[str, str]:
    """Takes an infotext apart; never fails.

    `Prompt` and `Negative prompt` are always there. A value like `512x768` is there as it stands
    and, as the WebUI has it, as `Size-1` and `Size-2`. Where a text has no line of parameters, all
    of it is prompt.
    """
    lines = text.split("\n")
    parameters = dict(_pairs(lines[-1]))
    if len(parameters) < _FEWEST:
        parameters = {}
    else:
        lines.pop()
    start = next((at for at, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE).removeprefix(" ")
    found = {"Prompt": "\n".join(lines[:start]), "Negative prompt": negative}
    for key, value in parameters.items():
        found.setdefault(key, value)
        size = _SIZE.fullmatch(value)
        if size is not None:
            found[f"{key}-1"], found[f"{key}-2"] = size.groups()
    return found


def _parameters(facts: Facts) -> Iterator[tuple[str, Value]]:
    """Yields the parameters in the WebUI's order and words."""
    yield "Steps", facts.steps
    yield "Sampler", facts.sampler
    yield "Schedule type", facts.scheduler
    yield "CFG scale", facts.cfg_scale
    yield "Seed", facts.seed
    yield "Size", f"{facts.width}x{facts.height}"
    yield "Model hash", facts.model_hash
    yield "Model", facts.model
    yield "VAE", facts.vae
    if facts.variation is not None:
        yield "Variation seed", facts.variation.subseed
        yield "Variation seed strength", facts.variation.strength
        if facts.variation.width and facts.variation.height:
            yield "Seed resize from", f"{facts.variation.width}x{facts.variation.height}"
    yield "Denoising strength", facts.denoising_strength
    yield "Clip skip", facts.clip_skip if facts.clip_skip > 1 else None
    yield "Tiling", facts.tiling or None
    if facts.inpaint is not None:
        yield from _of_inpainting(facts.inpaint)
    if facts.hires is not None:
        yield from _of_hires(facts.hires)
    yield "Eta", facts.tuning.eta
    yield "Sigma churn", facts.tuning.s_churn
    yield "Sigma tmin", facts.tuning.s_tmin
    yield "Sigma tmax", facts.tuning.s_tmax
    yield "Sigma noise", facts.tuning.s_noise
    yield "NGMS", facts.tuning.s_min_uncond
    yield "Noise multiplier", facts.tuning.initial_noise_multiplier
    yield from facts.extra.items()
    yield "Version", facts.version


def _of_inpainting(inpaint: InpaintFacts) -> Iterator[tuple[str, Value]]:
    yield "Mask blur", inpaint.blur_pixels
    if inpaint.inverted:
        yield "Mask mode", "Inpaint not masked"
    if inpaint.full_resolution:
        yield "Inpaint area", "Only masked"
        yield "Masked area padding", inpaint.padding_pixels
    if inpaint.masked_content != "original":
        yield "Masked content", inpaint.masked_content


def _of_hires(hires: HiresFacts) -> Iterator[tuple[str, Value]]:
    if hires.scale is not None:
        yield "Hires upscale", hires.scale
    else:
        yield "Hires resize", f"{hires.width}x{hires.height}"
    yield "Hires steps", hires.steps or None
    yield "Hires upscaler", hires.upscaler
    yield "Hires CFG Scale", hires.cfg_scale
    yield "Hires sampler", hires.sampler
    yield "Hires schedule type", hires.scheduler
    yield "Hires prompt", hires.prompt
    yield "Hires negative prompt", hires.negative_prompt


def _shown(value: str | int | float | bool) -> str:
    """Writes a number in as few digits as tell it: 7, 7.5; what came as a 32-bit float, as that."""
    if not isinstance(value, float):
        return str(value)
    single = np.float32(value)
    return np.format_float_positional(single if float(single) == value else value, trim="-")


def _quoted(text: str) -> str:
    """Quotes what would not be read back as it stands."""
    if text == text.strip() and not text.startswith('"') and not set(text) & set(",:\n"):
        return text
    return json.dumps(text, ensure_ascii=False)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Yields keys and values of a line of parameters, in time that grows with its length alone."""
    at = 0
    while (colon := line.find(":", at)) >= 0:
        key = line[at:colon].rpartition(",")[2].strip()
        start = colon + 1
        while start < len(line) and line[start].isspace():
            start += 1
        value, end = _value(line, start)
        at = end + 1
        if _KEY.fullmatch(key):
            yield key, value


def _value(line: str, start: int) -> tuple[str, int]:
    """Returns the value that starts at an index, and where its comma (or the line's end) is."""
    if line[start : start + 1] == '"':
        try:
            value, end = _unquote(line, start)
        except ValueError:
            pass
        else:
            if line[end : end + 1] in (",", "") and isinstance(value, str):
                return value, end
    comma = line.find(",", start)
    end = len(line) if comma < 0 else comma
    return line[start:end].strip(), end

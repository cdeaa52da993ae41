"""What goes between the Triton engine and its model in Triton: JSON beside tensors. No torch.

The model there has one input `order` (a JSON object), and optionally `pictures` (PNG files) and
`latents`; it answers with events (JSON objects), to which `latents` or `pictures` may belong.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image

from services.errors import InvalidArgument
from services.image.engine import (
    Drawing,
    Fill,
    HiresPlan,
    ImageModelInfo,
    Mode,
    Plan,
    Tuning,
    Variation,
)
from services.image.engines.diffusers_memory import Shapes
from services.image.engines.diffusers_refusals import SolverFacts
from services.image.engines.latent_colours import ColourMap

ORDER, PICTURES, LATENTS, EVENT = "order", "pictures", "latents", "event"
_SETS = ("samplers", "schedulers", "upscalers", "tuning")
_STEPS, _CFG_SCALE = 20, 7.0
_FORMAT = 2
"""Of orders: what was exported with another one does not understand these."""

D = TypeVar("D")


class Op(Enum):
    """What is asked for."""

    DESCRIBE = "describe"
    MEASURE = "measure"
    DRAW = "draw"
    DECODE = "decode"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class SolverWords:
    """What a sampler's name stands for, as the model tells it."""

    sampler: str
    schedules: tuple[str, ...]
    tuning: frozenset[str]
    adds_noise: bool


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """What the model in Triton is."""

    info: ImageModelInfo
    solvers: Mapping[str, SolverWords]
    shapes: Shapes
    colours: ColourMap
    free_bytes: int


def write_description(
    info: ImageModelInfo,
    solvers: Mapping[str, SolverFacts],
    shapes: Shapes,
    colours: ColourMap,
    free_bytes: int,
) -> dict[str, Any]:
    """The event that describes a model."""
    told = asdict(info) | {name: sorted(getattr(info, name)) for name in _SETS}
    told["modes"] = sorted(mode.value for mode in info.modes)
    return {
        "type": "description",
        "format": _FORMAT,
        "info": told,
        "solvers": {
            name: {
                "sampler": one.sampler,
                "schedules": list(one.schedules),
                "tuning": sorted(one.tuning),
                "adds_noise": one.adds_noise,
            }
            for name, one in solvers.items()
        },
        "shapes": asdict(shapes),
        "colours": colours.tolist(),
        "free_bytes": free_bytes,
    }


def read_description(event: Mapping[str, Any]) -> Description:
    """What such an event says.

    Raises `KeyError`, `TypeError` or `ValueError` where it is another version's.
    """
    if event.get("format") != _FORMAT:
        raise ValueError("orders of another format")
    told: dict[str, Any] = {**event["info"]}
    told |= {name: frozenset(told[name]) for name in _SETS}
    told["modes"] = frozenset(Mode(mode) for mode in told["modes"])
    return Description(
        info=ImageModelInfo(**told),
        solvers={
            name: SolverWords(
                one["sampler"], tuple(one["schedules"]), frozenset(one["tuning"]), one["adds_noise"]
            )
            for name, one in event["solvers"].items()
        },
        shapes=Shapes(**event["shapes"]),
        colours=np.array(event["colours"], np.float64),
        free_bytes=int(event["free_bytes"]),
    )


def write_drawing_order(plan: Plan, drawings: Sequence[Drawing]) -> tuple[str, list[bytes]]:
    """The order to draw a batch, and its pictures."""
    pictures: list[bytes] = []

    def place(image: Image.Image | None) -> int | None:
        if image is None:
            return None
        pictures.append(_png(image))
        return len(pictures) - 1

    told = [
        {
            "prompt": one.prompt,
            "negative_prompt": one.negative_prompt,
            "seed": one.seed,
            "variation": None if one.variation is None else asdict(one.variation),
            "initial": place(one.initial),
            "mask": place(one.mask),
            "weighs_words": one.weighs_words,
            "hires_prompt": one.hires_prompt,
            "hires_negative_prompt": one.hires_negative_prompt,
        }
        for one in drawings
    ]
    planned = asdict(plan) | {"mode": plan.mode.value, "fill": plan.fill.value}
    order = {"op": Op.DRAW.value, "plan": planned, "drawings": told}
    return json.dumps(order), pictures


def read_drawing_order(
    order: Mapping[str, Any], pictures: Sequence[bytes], info: ImageModelInfo
) -> tuple[Plan, list[Drawing]]:
    """What such an order asks for; what it leaves out is the model's own.

    Raises:
        InvalidArgument: it can't be read; the message says where.
    """
    planned = _object(order.get("plan", {}), "plan")
    usual = {
        "width": info.width,
        "height": info.height,
        "steps": _STEPS,
        "cfg_scale": _CFG_SCALE,
        "sampler": info.default_sampler,
        "scheduler": "automatic",
    }
    given: dict[str, Any] = {**usual, **planned}
    try:
        given["mode"] = Mode(given.get("mode", Mode.TEXT.value))
        given["fill"] = Fill(given.get("fill", Fill.PIXELS.value))
    except ValueError as error:
        raise InvalidArgument(f"In plan: {error}.", field="plan") from None
    if given.get("tuning") is not None:
        given["tuning"] = _made(Tuning, given["tuning"], "plan.tuning")
    else:
        given.pop("tuning", None)
    if given.get("hires") is not None:
        given["hires"] = _made(HiresPlan, given["hires"], "plan.hires")
    plan = _made(Plan, given, "plan")
    listed = order.get("drawings")
    if not isinstance(listed, list) or not listed:
        raise InvalidArgument("`drawings` has to be a list of at least one.", field="drawings")
    return plan, [
        _drawing(one, f"drawings[{place}]", pictures, plan)
        for place, one in enumerate(cast("list[Any]", listed))
    ]


def _drawing(told: Any, where: str, pictures: Sequence[bytes], plan: Plan) -> Drawing:
    given = {"negative_prompt": "", **_object(told, where)}
    if given.get("variation") is not None:
        given["variation"] = _made(Variation, given["variation"], f"{where}.variation")
    for name, mode in (("initial", "RGB"), ("mask", "L")):
        at = given.get(name)
        if at is None:
            continue
        if not isinstance(at, int) or not 0 <= at < len(pictures):
            raise InvalidArgument(
                f"There is no picture {at} in `pictures`.", field=f"{where}.{name}"
            )
        given[name] = _opened(pictures[at], f"{where}.{name}").convert(mode)
    drawing = _made(Drawing, given, where)
    needed = {Mode.TEXT: (), Mode.IMAGE: ("initial",), Mode.INPAINT: ("initial", "mask")}
    for name in needed[plan.mode]:
        if getattr(drawing, name) is None:
            raise InvalidArgument(
                f"A drawing with the mode {plan.mode.value} has to have `{name}`.",
                field=f"{where}.{name}",
            )
    if not drawing.hires_prompt:
        drawing = replace(drawing, hires_prompt=drawing.prompt)
    return drawing


def _object(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidArgument(f"`{where}` has to be an object.", field=where)
    return cast("dict[str, Any]", given)


def _made(kind: type[D], given: Any, where: str) -> D:
    told = _object(given, where)
    known = {field.name for field in fields(cast("Any", kind))}
    for name in told:
        if name not in known:
            raise InvalidArgument(f"`{where}` has no field `{name}`.", field=f"{where}.{name}")
    try:
        return kind(**told)
    except TypeError:
        raise InvalidArgument(f"`{where}` lacks fields: {', '.join(sorted(known - told.keys()))}.",
                              field=where) from None  # fmt: skip


def _opened(data: bytes, where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        image.load()
    except Exception:
        raise InvalidArgument("A picture has to be a PNG file.", field=where) from None
    return image


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

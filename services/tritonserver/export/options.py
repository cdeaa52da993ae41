"""How a model is exported: the options of all kinds of models, checked."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from services.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_RATE = re.compile(r"([A-Za-z0-9_-]+):(\d+)(:global)?")
_SHAPE = re.compile(r"(\d+)x(\d+)")
DTYPES = ("auto", "float32", "bfloat16", "float16")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
_MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class RateResource:
    """What an instance needs of the rate limiter to run."""

    name: str
    count: int
    everywhere: bool
    """Whether all devices share it."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Shapes that a TensorRT engine is built for: inputs and tokens, at least, best, at most."""

    least: tuple[int, int]
    best: tuple[int, int]
    most: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What is the same for all kinds of models; each kind refuses what it has no use for."""

    name: str
    """The model's name in the repository."""
    layout: str = ""
    """Which of its kind's layouts; empty is the first."""
    weights: str = "copy"
    """`copy`, `link`, or the path at which Triton finds the folder."""
    dtype: str = "auto"
    """Number type of the weights."""
    gpus: tuple[int, ...] = ()
    """GPUs that run it; none is the processor."""
    instances: int = 1
    """Instances on each GPU, or on the processor."""
    threads: int = 0
    """Threads of an instance on the processor; 0 is torch's default."""
    context_length: int = 0
    """Most tokens; 0 is the model's own."""
    max_batch_size: int = 0
    """Most inputs that are computed together; 0 is the kind's own."""
    queue_delay_us: int = 500
    """How long a request may wait for company."""
    preferred_batch_sizes: tuple[int, ...] = ()
    queue_size: int = 256
    """Most requests that wait; 0 is any number."""
    queue_timeout_s: float = 0.0
    """How long a request may wait where it says nothing itself; 0 is for ever."""
    timeout_action: str = "reject"
    """What becomes of a request that waited too long: `reject` or `delay`, behind all others."""
    priority_levels: int = 0
    """Levels of priority that requests may name; 0 is none."""
    response_cache: bool = False
    rate_limit: tuple[str, ...] = ()
    """Resources as NAME:COUNT, or NAME:COUNT:global for one that all devices share."""
    rate_priority: int = 0
    """Weight in the rate limiter: 2 gets half the turns of 1; 0 is none."""
    warmup: bool = True
    """Whether it computes samples before it counts as ready."""
    precision: str = "fp16"
    """Of a TensorRT engine."""
    profile: str = ""
    """Shapes of a TensorRT engine: `least,best,most`, each inputs x tokens, such as `8x64`."""
    overwrite: bool = False

    @property
    def resources(self) -> list[RateResource]:
        """Those of the rate limiter."""
        found: list[RateResource] = []
        for one in self.rate_limit:
            match = _RATE.fullmatch(one)
            if match is None or not int(match[2]):
                raise InvalidArgument(
                    f"“{one}” is no resource: write NAME:COUNT, or NAME:COUNT:global, with a count "
                    f"of at least 1.",
                    field="rate_limit",
                )
            found.append(RateResource(match[1], int(match[2]), bool(match[3])))
        return found

    def shapes(self, usual: Profile) -> Profile:
        """The profile that was given, or else the usual one."""
        if not self.profile:
            return usual
        parts = [_SHAPE.fullmatch(part.strip()) for part in self.profile.split(",")]
        found = [(int(match[1]), int(match[2])) for match in parts if match is not None]
        rising = len(found) == len(parts) == 3 and all(
            0 < a <= b for less, more in itertools.pairwise(found)
            for a, b in zip(less, more, strict=True)
        )  # fmt: skip
        if not rising:
            raise InvalidArgument(
                f"“{self.profile}” is no profile: write least, best and most shape as inputs x "
                f"tokens, none smaller than the one before, such as 1x16,8x64,64x256.",
                field="profile",
            )
        return Profile(*found)


def read_options(given: Mapping[str, Any]) -> ExportOptions:
    """Checks options.

    Raises:
        InvalidArgument: one is unknown or has a value that is not allowed.
    """
    known = {field.name for field in fields(ExportOptions)}
    for name in given:
        if name not in known:
            raise InvalidArgument(f"There is no option `{name}`.", field=name)
    told: dict[str, Any] = {name: _fixed(value) for name, value in given.items()}
    options = ExportOptions(**told)
    if not _NAME.fullmatch(options.name):
        raise InvalidArgument(
            f"“{options.name}” is no name of a model in Triton: use letters, digits, `.`, `_` and "
            f"`-`, at most 128.",
            field="name",
        )
    _check_one_of("dtype", options.dtype, DTYPES)
    _check_one_of("precision", options.precision, PRECISIONS)
    _check_one_of("timeout_action", options.timeout_action, ("reject", "delay"))
    _check_least(options)
    if len(set(options.gpus)) != len(options.gpus):
        raise InvalidArgument("A GPU is named twice.", field="gpus")
    if options.timeout_action == "delay" and not options.queue_timeout_s:
        raise InvalidArgument(
            "Delaying what waited too long takes a queue_timeout_s.", field="timeout_action"
        )
    if options.rate_priority and not options.rate_limit:
        raise InvalidArgument(
            "A priority in the rate limiter takes a resource: add rate_limit.",
            field="rate_priority",
        )
    _ = options.resources  # raises where one can't be read
    return options


def with_layout(options: ExportOptions, layouts: Sequence[str], what: str) -> ExportOptions:
    """The options with the layout that is meant; the first where none is named.

    Raises:
        InvalidArgument: this kind of model, which `what` calls by name, has none of that name.
    """
    layout = options.layout or layouts[0]
    if layout not in layouts:
        raise InvalidArgument(
            f"{what} has no layout “{layout}”: use {', '.join(layouts)}.", field="layout"
        )
    return replace(options, layout=layout)


def refuse(options: ExportOptions, names: Mapping[str, str]) -> None:
    """Refuses options that this kind or layout has no use for, by name and reason."""
    for name, reason in names.items():
        usual = next(field.default for field in fields(ExportOptions) if field.name == name)
        if getattr(options, name) != usual:
            raise InvalidArgument(f"{reason}: leave {name} out.", field=name)


def _fixed(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidArgument(f"“{value}” is not one of {', '.join(known)}.", field=name)


def _check_least(options: ExportOptions) -> None:
    least = {
        "instances": 1,
        "threads": 0,
        "context_length": 0,
        "max_batch_size": 0,
        "queue_delay_us": 0,
        "queue_size": 0,
        "queue_timeout_s": 0,
        "priority_levels": 0,
        "rate_priority": 0,
    }
    for name, low in least.items():
        if not low <= getattr(options, name) <= _MOST:
            raise InvalidArgument(f"It has to be at least {low}.", field=name)
    for name in ("gpus", "preferred_batch_sizes"):
        low = int(name != "gpus")
        if any(value < low for value in getattr(options, name)):
            raise InvalidArgument(f"Each has to be at least {low}.", field=name)

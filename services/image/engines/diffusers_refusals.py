"""Why a plan can't be drawn with a model: what depends on sampler, schedule and model together."""

from collections.abc import Mapping
from typing import Protocol

from services.image.engine import ImageModelInfo, Mode, Plan, Tuning
from services.image.samplers import AUTOMATIC

Refusal = tuple[str, str] | None


class SolverFacts(Protocol):
    """What a sampler's name stands for, as far as it decides what can be drawn."""

    @property
    def sampler(self) -> str:
        """Canonical name."""
        ...

    @property
    def schedules(self) -> tuple[str, ...]:
        """Those it can use besides `automatic`."""
        ...

    @property
    def tuning(self) -> frozenset[str]:
        """Fields of `Tuning` that it honours."""
        ...

    @property
    def adds_noise(self) -> bool:
        """Whether it adds noise while it walks."""
        ...


Solvers = Mapping[str, SolverFacts]
"""By the names of their samplers."""


def refusal(plan: Plan, info: ImageModelInfo, solvers: Solvers) -> Refusal:
    """The field of `ImageRequest` and a sentence; None when it can be drawn."""
    return (
        _sizes(plan, info)
        or _sampler(plan.sampler, plan.scheduler, "", solvers)
        or _tuning(plan, solvers[plan.sampler])
        or _text(plan, info)
        or _hires(plan, info, solvers)
    )


def _sizes(plan: Plan, info: ImageModelInfo) -> Refusal:
    multiple = info.size_multiple
    for field, value in (("width", plan.width), ("height", plan.height)):
        if value % multiple:
            return field, f"This model draws in multiples of {multiple} pixels: {value} is none."
    if plan.hires is not None:
        for field, value in (("width", plan.hires.width), ("height", plan.hires.height)):
            if value % multiple:
                sentence = f"This model draws in multiples of {multiple} pixels: {value} is none."
                return f"hires.{field}", sentence
    if plan.mode not in info.modes:
        return "init_images", f"This model can't do {plan.mode.value} drawings."
    return None


def _sampler(sampler: str, scheduler: str, prefix: str, solvers: Solvers) -> Refusal:
    solver = solvers.get(sampler)
    if solver is None:
        known = ", ".join(solvers)
        return f"{prefix}sampler", f"This model can't use the sampler “{sampler}”. It has: {known}."
    if scheduler not in (AUTOMATIC, *solver.schedules):
        known = ", ".join((AUTOMATIC, *solver.schedules))
        sentence = f"{sampler} can't use the schedule “{scheduler}” here. It has: {known}."
        return f"{prefix}scheduler", sentence
    return None


def _tuning(plan: Plan, solver: SolverFacts) -> Refusal:
    tuning, neutral = plan.tuning, Tuning()
    for name in ("s_churn", "s_tmin", "s_tmax", "s_noise", "s_min_uncond"):
        if getattr(tuning, name) != getattr(neutral, name) and name not in solver.tuning:
            return f"sampler_tuning.{name}", f"{solver.sampler} has no {name} here: leave it out."
    if tuning.initial_noise_multiplier != 1 and plan.mode is Mode.TEXT:
        field = "sampler_tuning.initial_noise_multiplier"
        return field, "initial_noise_multiplier is for drawings from an image: leave it out."
    # Samplers without an eta add no noise (0), or all of theirs (1); clients send 1 as a default.
    taken = (1.0,) if solver.adds_noise else (0.0, 1.0)
    if tuning.eta is not None and "eta" not in solver.tuning and tuning.eta not in taken:
        return "sampler_tuning.eta", f"{solver.sampler} has no eta here: leave it out."
    if plan.hires is not None and plan.hires.sampler != plan.sampler and tuning != neutral:
        field = "hires.sampler"
        return field, "A tuned sampler has to be that of both passes: leave one of them out."
    return None


def _text(plan: Plan, info: ImageModelInfo) -> Refusal:
    if plan.clip_skip > info.max_clip_skip:
        most = info.max_clip_skip
        sentence = (
            f"This model's text encoder can be stopped {most - 1} layers before its end: ask for a "
            f"clip_skip of at most {most}."
            if most > 1
            else "This model's text encoder can't skip layers: leave clip_skip out."
        )
        return "clip_skip", sentence
    if plan.tiling and not info.tiling:
        return "tiling", "This model is not made of convolutions and can't tile: leave tiling out."
    return None


def _hires(plan: Plan, info: ImageModelInfo, solvers: Solvers) -> Refusal:
    hires = plan.hires
    if hires is None:
        return None
    if hires.upscaler not in info.upscalers:
        known = ", ".join(sorted(info.upscalers))
        return "hires.upscaler", f"There is no upscaler “{hires.upscaler}”. There are: {known}."
    return _sampler(hires.sampler, hires.scheduler, "hires.", solvers)

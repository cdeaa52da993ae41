"""Which scheduler of diffusers a sampler's name stands for, and how it is set up.

`TABLE` is for models that predict noise or velocity (Stable Diffusion, SDXL), `FLOW_TABLE` for flow
matching (Stable Diffusion 3, Flux). What is in neither is not offered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import diffusers
import numpy as np

from services.image.engines.diffusers_ancestral import EulerAncestralScheduler, made
from services.image.samplers import AUTOMATIC, find_sampler

Config = Mapping[str, Any]


class Form(Enum):
    """How a scheduler mixes picture and noise in its samples."""

    SIGMA = "sigma"
    """picture + sigma * noise"""
    ALPHA = "alpha"
    """sqrt(a) * picture + sqrt(1 - a) * noise, with a of the timestep"""
    ALPHA_SIGMA = "alpha_sigma"
    """The same, with a of the sigma."""
    FLOW = "flow"
    """(1 - sigma) * picture + sigma * noise"""


_SPACED = ("uniform", "normal", "simple", "sgm_uniform", "ddim")
_CURVED = ("karras", "exponential", "polyexponential", "beta")
_CHURN = frozenset({"s_churn", "s_tmin", "s_tmax", "s_noise"})
_ETA = frozenset({"eta"})


@dataclass(frozen=True, slots=True)
class Solver:
    """What a sampler's name stands for."""

    sampler: str
    """Canonical name (`services.image.samplers`)."""
    scheduler: str
    """Class of diffusers."""
    form: Form
    schedules: tuple[str, ...] = ()
    """Those it can use besides `automatic`."""
    config: Config = field(default_factory=dict[str, Any])
    """Of the class, over the model's own."""
    tuning: frozenset[str] = frozenset()
    """Fields of `Tuning` that it honours."""
    adds_noise: bool = False
    """Whether it adds noise while it walks, as with an eta of 1."""
    timesteps: bool = False
    """Whether evenly spaced schedules are given to it as timesteps, because its own spacing of
    that name differs."""

    @property
    def default_schedule(self) -> str:
        """What `automatic` stands for; `automatic` where it is the model's own."""
        found = find_sampler(self.sampler)
        wanted = found[0].default_scheduler if found is not None else AUTOMATIC
        return wanted if wanted in self.schedules else AUTOMATIC

    @property
    def label(self) -> str:
        """The class and its settings, as the documentation shows them."""
        settings = ", ".join(f"{key}={value!r}" for key, value in self.config.items())
        return f"{self.scheduler}({settings})"


_DPM = "DPMSolverMultistepScheduler"
_SDE: Config = {"algorithm_type": "sde-dpmsolver++"}
_PLAIN: Config = {"algorithm_type": "dpmsolver++"}
_ALL = (*_SPACED, *_CURVED)

TABLE: tuple[Solver, ...] = (
    Solver(
        "DPM++ 2M",
        _DPM,
        Form.ALPHA_SIGMA,
        _ALL,
        {**_PLAIN, "solver_order": 2, "solver_type": "midpoint"},
        timesteps=True,
    ),
    Solver(
        "DPM++ SDE",
        "DPMSolverSinglestepScheduler",
        Form.ALPHA_SIGMA,
        _ALL,
        {**_SDE, "solver_order": 2, "lower_order_final": True},
        adds_noise=True,
        timesteps=True,
    ),
    Solver(
        "DPM++ 2M SDE",
        _DPM,
        Form.ALPHA_SIGMA,
        _ALL,
        {**_SDE, "solver_order": 2, "solver_type": "midpoint"},
        adds_noise=True,
        timesteps=True,
    ),
    Solver(
        "DPM++ 2M SDE Heun",
        _DPM,
        Form.ALPHA_SIGMA,
        _ALL,
        {**_SDE, "solver_order": 2, "solver_type": "heun"},
        adds_noise=True,
        timesteps=True,
    ),
    Solver(
        "DPM++ 3M SDE",
        _DPM,
        Form.ALPHA_SIGMA,
        _ALL,
        {**_SDE, "solver_order": 3, "solver_type": "midpoint"},
        adds_noise=True,
        timesteps=True,
    ),
    Solver(
        "Euler a",
        "EulerAncestralDiscreteScheduler",
        Form.SIGMA,
        _ALL,
        tuning=_ETA | {"s_noise"},
        adds_noise=True,
    ),
    Solver("Euler", "EulerDiscreteScheduler", Form.SIGMA, _ALL, tuning=_CHURN),
    Solver("LMS", "LMSDiscreteScheduler", Form.SIGMA, _ALL),
    Solver("Heun", "HeunDiscreteScheduler", Form.SIGMA, _ALL),
    Solver("DPM2", "KDPM2DiscreteScheduler", Form.SIGMA, _ALL),
    Solver("DPM2 a", "KDPM2AncestralDiscreteScheduler", Form.SIGMA, _ALL, adds_noise=True),
    Solver("DDIM", "DDIMScheduler", Form.ALPHA, _SPACED, {"clip_sample": False}, tuning=_ETA),
    Solver("PLMS", "PNDMScheduler", Form.ALPHA, _SPACED, {"skip_prk_steps": True}),
    Solver(
        "UniPC",
        "UniPCMultistepScheduler",
        Form.ALPHA_SIGMA,
        ("simple", "sgm_uniform", *_CURVED),
    ),
    Solver("LCM", "LCMScheduler", Form.ALPHA, adds_noise=True),
)
"""Of models that predict noise or velocity."""

_AS_FLOW: Config = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}

FLOW_TABLE: tuple[Solver, ...] = (
    Solver(
        "Euler",
        "FlowMatchEulerDiscreteScheduler",
        Form.FLOW,
        ("uniform", "normal", "simple", "sgm_uniform", *_CURVED),
    ),
    Solver(
        "Heun",
        "FlowMatchHeunDiscreteScheduler",
        Form.FLOW,
        tuning=_CHURN,
    ),
    Solver("DPM++ 2M", _DPM, Form.FLOW, (), {**_PLAIN, **_AS_FLOW, "solver_order": 2}),
    Solver(
        "DPM++ 2M SDE",
        _DPM,
        Form.FLOW,
        (),
        {**_SDE, **_AS_FLOW, "solver_order": 2},
        adds_noise=True,
    ),
    Solver("UniPC", "UniPCMultistepScheduler", Form.FLOW, (), _AS_FLOW),
)
"""Of flow-matching models."""

_EVEN: Config = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_LINEAR: Config = {**_EVEN, "timestep_spacing": "linspace"}
_TRAILING: Config = {**_EVEN, "timestep_spacing": "trailing"}
_EXPONENTIAL: Config = {**_LINEAR, "use_exponential_sigmas": True}

SCHEDULES: Mapping[str, Config] = {
    AUTOMATIC: {},
    "uniform": _LINEAR,
    "normal": _LINEAR,
    "simple": _TRAILING,
    "sgm_uniform": _TRAILING,
    "ddim": {**_EVEN, "timestep_spacing": "leading", "steps_offset": 1},
    "karras": {**_LINEAR, "use_karras_sigmas": True},
    "exponential": _EXPONENTIAL,
    # With a rho of 1, which is the default, they are the same.
    "polyexponential": _EXPONENTIAL,
    "beta": {**_LINEAR, "use_beta_sigmas": True},
}
"""How a schedule is set up in a scheduler's config; `automatic` is the model's own."""


def usable(*, flow: bool, own: Config, shifts: bool) -> dict[str, Solver]:
    """The solvers of a model, by the names of their samplers.

    Args:
        flow: whether it was trained by flow matching.
        own: its scheduler's config.
        shifts: whether its pipeline tells every scheduler how far to shift.
    """
    dynamic = bool(own.get("use_dynamic_shifting"))
    fits = {
        "FlowMatchEulerDiscreteScheduler": True,
        "FlowMatchHeunDiscreteScheduler": not dynamic and not shifts,
    }
    exponential = own.get("time_shift_type", "exponential") == "exponential"
    # Pipelines that tell how far to shift tell the sigmas, too, which these schedulers don't take.
    others = not flow or ((exponential or not dynamic) and not shifts)
    table = FLOW_TABLE if flow else TABLE
    return {solver.sampler: solver for solver in table if fits.get(solver.scheduler, others)}


def resolve(solver: Solver, schedule: str) -> str:
    """The schedule that is really used; `automatic` only where it is the model's own."""
    return solver.default_schedule if schedule == AUTOMATIC else schedule


def build(solver: Solver, schedule: str, own: Config, steps: int) -> Any:
    """A fresh scheduler for one run.

    Args:
        solver: the sampler.
        schedule: as the plan names it.
        own: the model's scheduler config.
        steps: of the whole schedule.
    """
    config = {**own, **solver.config, **SCHEDULES[resolve(solver, schedule)]}
    if solver.config.get("use_flow_sigmas"):
        config["flow_shift"] = own.get("shift", 1.0)
    if solver.scheduler == "LCMScheduler":
        # It picks its steps from so many that the model was distilled on; never from fewer.
        config["original_inference_steps"] = max(
            int(config.get("original_inference_steps") or 50), steps
        )
    if solver.scheduler == "EulerAncestralDiscreteScheduler":
        return EulerAncestralScheduler(config)
    return made(getattr(diffusers, solver.scheduler), config)


def explicit(solver: Solver, schedule: str, steps: int, own: Config) -> dict[str, Any]:
    """What a pipeline has to be told of the schedule, because its scheduler can't be."""
    used = resolve(solver, schedule)
    if solver.form is Form.FLOW:
        ends = {"simple": steps, "sgm_uniform": steps, "uniform": 1000, "normal": 1000}
        if used not in ends:
            return {}
        return {"sigmas": np.linspace(1.0, 1 / ends[used], steps).tolist()}
    if not solver.timesteps or used not in ("uniform", "normal", "ddim"):
        return {}
    trained = int(own.get("num_train_timesteps") or 1000)
    if used == "ddim":
        spaced = np.arange(steps)[::-1] * (trained // steps) + 1
    else:
        spaced = np.linspace(trained - 1, 0, steps).round()
    return {"timesteps": spaced.astype(int).clip(0, trained - 1).tolist()}

"""Samplers and sigma schedules by the names that WebUI clients know: pure data, no engine.

Which of them a model can use is its engine's to say (`ImageModelInfo.samplers`, `schedulers`).
Names and aliases are those of the Stable-Diffusion-WebUI, https://github.com/AUTOMATIC1111/stable-diffusion-webui
(`modules/sd_samplers_kdiffusion.py`, `modules/sd_schedulers.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTOMATIC = "automatic"
"""The schedule that a sampler takes by itself."""
_KARRAS_ENDING = "_ka"
"""Ends old aliases of combined names: `k_dpmpp_2m_ka` is `DPM++ 2M Karras`."""


@dataclass(frozen=True, slots=True)
class SamplerName:
    """A way to walk from noise to image."""

    name: str
    aliases: tuple[str, ...] = ()
    default_scheduler: str = AUTOMATIC
    """What `automatic` stands for; `automatic` itself where the model's own schedule is taken."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Its own settings, in the WebUI's words."""


@dataclass(frozen=True, slots=True)
class SchedulerName:
    """A sigma schedule."""

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    default_rho: float | None = None
    need_inner_model: bool = False


def _sampler(name: str, *aliases: str, scheduler: str = "", **options: str) -> SamplerName:
    given = {"scheduler": scheduler, **options} if scheduler else options
    return SamplerName(name, aliases, scheduler or AUTOMATIC, given)


_TWICE = {"second_order": "True"}
_BROWNIAN = {"brownian_noise": "True"}
_DISCARDS = {"discard_next_to_last_sigma": "True"}
_ENSD = {"uses_ensd": "True"}

SAMPLERS: tuple[SamplerName, ...] = (
    _sampler("DPM++ 2M", "k_dpmpp_2m", scheduler="karras"),
    _sampler("DPM++ SDE", "k_dpmpp_sde", scheduler="karras", **_TWICE, **_BROWNIAN),
    _sampler("DPM++ 2M SDE", "k_dpmpp_2m_sde", scheduler="exponential", **_BROWNIAN),
    _sampler(
        "DPM++ 2M SDE Heun",
        "k_dpmpp_2m_sde_heun",
        scheduler="exponential",
        **_BROWNIAN,
        solver_type="heun",
    ),
    _sampler("DPM++ 2S a", "k_dpmpp_2s_a", scheduler="karras", **_ENSD, **_TWICE),
    _sampler("DPM++ 3M SDE", "k_dpmpp_3m_sde", scheduler="exponential", **_DISCARDS, **_BROWNIAN),
    _sampler("Euler a", "k_euler_a", "k_euler_ancestral", **_ENSD),
    _sampler("Euler", "k_euler"),
    _sampler("LMS", "k_lms"),
    _sampler("Heun", "k_heun", **_TWICE),
    _sampler("DPM2", "k_dpm_2", scheduler="karras", **_DISCARDS, **_TWICE),
    _sampler("DPM2 a", "k_dpm_2_a", scheduler="karras", **_DISCARDS, **_ENSD, **_TWICE),
    _sampler("DPM fast", "k_dpm_fast", **_ENSD),
    _sampler("DPM adaptive", "k_dpm_ad", **_ENSD),
    _sampler("Restart", "restart", scheduler="karras", **_TWICE),
    _sampler("DDIM", "ddim"),
    _sampler("DDIM CFG++", "ddim_cfgpp"),
    _sampler("PLMS", "plms"),
    _sampler("UniPC", "unipc"),
    _sampler("LCM", "k_lcm"),
)
"""All samplers that have a name, in the WebUI's order."""

SCHEDULERS: tuple[SchedulerName, ...] = (
    SchedulerName(AUTOMATIC, "Automatic"),
    SchedulerName("uniform", "Uniform", need_inner_model=True),
    SchedulerName("karras", "Karras", default_rho=7.0),
    SchedulerName("exponential", "Exponential"),
    SchedulerName("polyexponential", "Polyexponential", default_rho=1.0),
    SchedulerName("sgm_uniform", "SGM Uniform", ("SGMUniform",), need_inner_model=True),
    SchedulerName("kl_optimal", "KL Optimal"),
    SchedulerName("align_your_steps", "Align Your Steps"),
    SchedulerName("simple", "Simple", need_inner_model=True),
    SchedulerName("normal", "Normal", need_inner_model=True),
    SchedulerName("ddim", "DDIM", need_inner_model=True),
    SchedulerName("beta", "Beta", need_inner_model=True),
)
"""All schedules that have a name, in the WebUI's order."""


def find_scheduler(name: str) -> SchedulerName | None:
    """A schedule by name, label or alias, in any case; None when there is none of that name."""
    return _SCHEDULERS_BY_NAME.get(_key(name))


def find_sampler(name: str) -> tuple[SamplerName, str | None] | None:
    """A sampler by name or alias, in any case, and the schedule that the name asks for.

    Old names end in one: `DPM++ 2M Karras` is `DPM++ 2M` with `karras`. The schedule is None for
    names that say nothing of it. None when there is no such sampler.
    """
    key = _key(name)
    if found := _SAMPLERS_BY_NAME.get(key):
        return found, None
    for ending, scheduler in _ENDINGS:
        if key.endswith(ending) and (found := _SAMPLERS_BY_NAME.get(key.removesuffix(ending))):
            return found, scheduler
    return None


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


_SAMPLERS_BY_NAME = {_key(n): s for s in SAMPLERS for n in (s.name, *s.aliases)}
_SCHEDULERS_BY_NAME = {_key(n): s for s in SCHEDULERS for n in (s.name, s.label, *s.aliases)}
_ENDINGS = [
    *((" " + key, scheduler.name) for key, scheduler in _SCHEDULERS_BY_NAME.items()),
    (_KARRAS_ENDING, "karras"),
]

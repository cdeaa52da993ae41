"""What the tables say is what the schedulers do."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from services.image.engines.diffusers_schedules import (
    FLOW_TABLE,
    TABLE,
    Form,
    Solver,
    build,
    explicit,
    usable,
)
from services.image.engines.diffusers_walk import Walk

OWN: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "prediction_type": "epsilon",
}
FLOW_OWN: dict[str, Any] = {"num_train_timesteps": 1000, "shift": 3.0}
SOLVERS = {solver.sampler: solver for solver in TABLE}
STEPS = 10
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
ALPHAS = torch.cumprod(1 - BETAS, 0).double().numpy()
SIGMAS = np.sqrt((1 - ALPHAS) / ALPHAS)


def spaced(solver: Solver, schedule: str, own: dict[str, Any] = OWN) -> Any:
    scheduler = build(solver, schedule, own, STEPS)
    told = explicit(solver, schedule, STEPS, own)
    if told:
        scheduler.set_timesteps(**told)
    else:
        scheduler.set_timesteps(STEPS)
    return scheduler


def karras() -> np.ndarray:
    ramp, ends = np.linspace(0, 1, STEPS), (SIGMAS[-1] ** (1 / 7), SIGMAS[0] ** (1 / 7))
    return (ends[0] + ramp * (ends[1] - ends[0])) ** 7


def exponential() -> np.ndarray:
    return np.exp(np.linspace(np.log(SIGMAS[-1]), np.log(SIGMAS[0]), STEPS))


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "LMS", "DPM++ 2M", "DPM++ SDE", "UniPC"])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("karras", karras()), ("exponential", exponential()), ("polyexponential", exponential())],
)
def test_curved_schedules(sampler: str, schedule: str, expected: np.ndarray) -> None:
    scheduler = spaced(SOLVERS[sampler], schedule)
    np.testing.assert_allclose(scheduler.sigmas[:-1].numpy(), expected, rtol=2e-3)


EVEN = {
    "uniform": np.linspace(999, 0, STEPS),
    "normal": np.linspace(999, 0, STEPS),
    "sgm_uniform": np.linspace(999, 0, STEPS + 1)[:-1],
    "simple": 999 - np.arange(STEPS) * 1000 / STEPS,
    "ddim": (np.arange(STEPS) * (1000 // STEPS) + 1)[::-1],
}


@pytest.mark.parametrize("schedule", EVEN)
@pytest.mark.parametrize(
    "sampler", ["Euler", "Euler a", "LMS", "DPM++ 2M", "DPM++ 3M SDE", "DPM++ SDE", "DDIM"]
)
def test_even_schedules(sampler: str, schedule: str) -> None:
    scheduler = spaced(SOLVERS[sampler], schedule)
    assert np.abs(scheduler.timesteps.numpy() - EVEN[schedule]).max() <= 1


@pytest.mark.parametrize("solver", TABLE, ids=lambda solver: solver.sampler)
def test_automatic_is_the_samplers_own_or_the_models(solver: Solver) -> None:
    own = {**OWN, "timestep_spacing": "trailing"}
    expected = spaced(solver, solver.default_schedule, own)
    assert torch.equal(spaced(solver, "automatic", own).timesteps, expected.timesteps)
    if solver.default_schedule == "automatic" and "simple" in solver.schedules:
        assert torch.equal(
            spaced(solver, "automatic", own).timesteps, spaced(solver, "simple", OWN).timesteps
        )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", TABLE, ids=lambda solver: solver.sampler)
def test_the_walk_knows_what_the_picture_will_be(solver: Solver, kind: str) -> None:
    own = {**OWN, "prediction_type": kind}
    scheduler = build(solver, "automatic", own, STEPS)
    generator = torch.Generator().manual_seed(1)
    more = {"generator": [generator]} if solver.adds_noise else {}
    walk = Walk(scheduler, solver.form, more)
    picture, noise = (torch.randn(1, 4, 4, 4, generator=generator) for _ in range(2))
    assert walk.clean(0) is None
    scheduler.set_timesteps(STEPS)
    first = walk.start(4)[0]
    sample = walk.noised(picture, noise, first[None])
    scheduler.scale_model_input(sample, first)
    if solver.form is Form.ALPHA:
        alpha = scheduler.alphas_cumprod[int(first)]
    else:
        alpha = 1 / (scheduler.sigmas[4 * scheduler.order] ** 2 + 1)
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * picture
    scheduler.step(noise if kind == "epsilon" else velocity, first, sample)
    found = walk.clean(0)
    assert found is not None
    torch.testing.assert_close(found, picture, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("solver", FLOW_TABLE, ids=lambda solver: solver.sampler)
def test_the_walk_knows_it_of_flows_too(solver: Solver) -> None:
    scheduler = build(solver, "automatic", FLOW_OWN, STEPS)
    generator = torch.Generator().manual_seed(1)
    more = {"generator": [generator]} if solver.adds_noise else {}
    walk = Walk(scheduler, solver.form, more)
    picture, noise = (torch.randn(1, 4, 4, 4, generator=generator) for _ in range(2))
    scheduler.set_timesteps(STEPS)
    first = walk.start(4)[0]
    sample = walk.noised(picture, noise, first[None])
    scheduler.step(noise - picture, first, sample)
    found = walk.clean(0)
    assert found is not None
    torch.testing.assert_close(found, picture, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_eta_goes_from_euler_to_euler_ancestral(eta: float) -> None:
    ours: Any = spaced(SOLVERS["Euler a"], "uniform")
    kind = (
        diffusers.EulerDiscreteScheduler if eta == 0 else diffusers.EulerAncestralDiscreteScheduler
    )
    plain = kind(**{**OWN, "timestep_spacing": "linspace"})
    plain.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(2)
    sample, output = (torch.randn(2, 4, 4, 4, generator=generator) for _ in range(2))
    found: list[torch.Tensor] = []
    for scheduler, more in ((ours, {"eta": eta}), (plain, {})):
        scheduler.scale_model_input(sample, scheduler.timesteps[0])
        given = {"generator": torch.Generator().manual_seed(3), **more}
        found.append(
            scheduler.step(output, scheduler.timesteps[0], sample, return_dict=False, **given)[0]
        )
    torch.testing.assert_close(found[0], found[1])


def test_what_a_model_can_use() -> None:
    assert set(usable(flow=False, own=OWN, shifts=False)) == {s.sampler for s in TABLE}
    plain = usable(flow=True, own=FLOW_OWN, shifts=False)
    assert set(plain) == {solver.sampler for solver in FLOW_TABLE}
    assert set(usable(flow=True, own=FLOW_OWN, shifts=True)) == {"Euler"}
    dynamic = {**FLOW_OWN, "use_dynamic_shifting": True}
    assert set(usable(flow=True, own=dynamic, shifts=True)) == {"Euler"}
    assert set(usable(flow=True, own=dynamic, shifts=False)) == set(plain) - {"Heun"}
    linear = {**dynamic, "time_shift_type": "linear"}
    assert set(usable(flow=True, own=linear, shifts=False)) == {"Euler"}


@pytest.mark.parametrize("sampler", SOLVERS)
def test_each_run_has_a_scheduler_of_its_own(sampler: str) -> None:
    """What one run does to its scheduler is not seen by the next."""
    solver = SOLVERS[sampler]
    fresh, used = build(solver, "automatic", OWN, STEPS), build(solver, "automatic", OWN, STEPS)
    used.set_timesteps(3)
    used.timesteps.zero_()
    used.alphas_cumprod.zero_()
    for name in ("model_outputs", "ets", "derivatives"):
        getattr(used, name, []).append("left")
    again = build(solver, "automatic", OWN, STEPS)
    for name, value in vars(fresh).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(), getattr(again, name).nan_to_num()), name
        elif isinstance(value, list):
            assert value == getattr(again, name), name
    assert dict(again.config) == dict(fresh.config)

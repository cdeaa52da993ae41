"""Every sampler with every schedule, as far as the engine offers them."""

import pytest

from services.image.engine import ImageModel, Mode, Tuning
from services.image.engines.diffusers_schedules import FLOW_TABLE, TABLE
from services.image.samplers import SAMPLERS, SCHEDULERS
from tests.conformance.image.drawing import draw, draw_one, drawing_of, initial, plan_for

ALIKE = [{"uniform", "normal"}, {"simple", "sgm_uniform"}, {"exponential", "polyexponential"}]
"""Schedules that stand for the same; an even one may also be the model's own."""


@pytest.fixture(
    params=["echo", "sd", pytest.param("velocity", marks=pytest.mark.slow), "sd3", "flux"]
)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def alike(first: str, second: str) -> bool:
    return first == second or any({first, second} <= group for group in ALIKE)


async def test_what_is_offered_is_drawn_and_the_rest_refused(model: ImageModel) -> None:
    info = model.info
    for sampler in SAMPLERS:
        for scheduler in SCHEDULERS:
            plan = plan_for(model, steps=2, sampler=sampler.name, scheduler=scheduler.name)
            refused = model.refusal(plan)
            if sampler.name not in info.samplers:
                assert refused is not None
                assert refused[0] == "sampler"
            elif refused is not None:
                assert refused[0] == "scheduler"
                assert scheduler.name != "automatic"
                assert sampler.name in refused[1]
            else:
                assert scheduler.name in info.schedulers
                await draw(model, plan, [drawing_of()])


async def test_samplers_differ(model: ImageModel) -> None:
    found = {
        sampler: await draw_one(model, plan_for(model, steps=6, sampler=sampler), drawing_of())
        for sampler in sorted(model.info.samplers)
    }
    same = {
        (first, second)
        for first in found
        for second in found
        if first < second and found[first] == found[second]
    }
    assert same == set()


async def test_schedules_differ(model: ImageModel) -> None:
    found: dict[str, bytes] = {}
    for scheduler in sorted(model.info.schedulers - {"automatic"}):
        plan = plan_for(model, steps=6, sampler="Euler", scheduler=scheduler)
        if model.refusal(plan) is None:
            found[scheduler] = await draw_one(model, plan, drawing_of())
    assert len(found) > 3
    if model.info.name == "echo":
        return
    for first, picture in found.items():
        for second, other in found.items():
            assert (picture == other) == alike(first, second), (first, second)


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_few_steps_are_enough(model: ImageModel, steps: int) -> None:
    for sampler in sorted(model.info.samplers):
        plan = plan_for(model, steps=steps, sampler=sampler)
        picture = (await draw(model, plan, [drawing_of()]))[0]
        # What overflows decodes to one colour; random weights draw few, in one step hardly any.
        assert steps == 1 or len(set(picture.tobytes())) > 2, f"{sampler} drew nothing"


async def test_every_sampler_is_exact_in_batches_and_from_images(model: ImageModel) -> None:
    for sampler in sorted(model.info.samplers):
        plan = plan_for(model, steps=4, sampler=sampler, mode=Mode.IMAGE, denoising_strength=0.6)
        drawings = [drawing_of(seed, initial=initial()) for seed in (1, 2, 3)]
        together = await draw(model, plan, drawings)
        alone = await draw_one(model, plan, drawings[1])
        assert together[1].tobytes() == alone, sampler


async def test_tuning_is_honoured_or_refused(model: ImageModel) -> None:
    values = {
        "eta": 0.5,
        "s_churn": 5.0,
        "s_noise": 0.5,
        "s_min_uncond": 1.0,
    }
    for sampler in sorted(model.info.samplers):
        plan = plan_for(model, steps=4, sampler=sampler)
        plain = await draw_one(model, plan, drawing_of())
        for field, value in values.items():
            given = {field: value}
            if field == "s_noise" and sampler in ("Euler", "Heun"):
                given["s_churn"] = 5.0  # without it, there is no noise to scale
            tuned = plan_for(model, steps=4, sampler=sampler, tuning=Tuning(**given))
            refused = model.refusal(tuned)
            if refused is None:
                assert field in model.info.tuning
                assert await draw_one(model, tuned, drawing_of()) != plain, (sampler, field)
            else:
                assert refused[0].startswith("sampler_tuning."), refused


async def test_what_clients_send_by_default_passes(model: ImageModel) -> None:
    for sampler in sorted(model.info.samplers):
        if sampler == "DDIM":
            continue  # there, an eta of 1 means something
        plan = plan_for(model, sampler=sampler)
        tuned = plan_for(model, sampler=sampler, tuning=Tuning(eta=1.0))
        assert await draw_one(model, plan, drawing_of()) == await draw_one(
            model, tuned, drawing_of()
        )


def test_the_tables_name_what_there_is() -> None:
    samplers, schedulers = ({row.name for row in rows} for rows in (SAMPLERS, SCHEDULERS))
    for table in (TABLE, FLOW_TABLE):
        names = [solver.sampler for solver in table]
        assert len(set(names)) == len(names)
        for solver in table:
            assert solver.sampler in samplers
            assert set(solver.schedules) <= schedulers
            assert solver.default_schedule in (*solver.schedules, "automatic")
            assert solver.scheduler in solver.label

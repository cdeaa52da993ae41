"""Samplers and schedules are found by the names that clients send."""

import pytest

from services.image.samplers import SAMPLERS, SCHEDULERS, find_sampler, find_scheduler


@pytest.mark.parametrize(
    ("name", "sampler", "scheduler"),
    [
        ("Euler a", "Euler a", None),
        ("euler A", "Euler a", None),
        ("  Euler   a ", "Euler a", None),
        ("k_euler_ancestral", "Euler a", None),
        ("DPM++ 2M", "DPM++ 2M", None),
        ("DPM++ 2M Karras", "DPM++ 2M", "karras"),
        ("dpm++ 2m karras", "DPM++ 2M", "karras"),
        ("DPM++ 2M SDE Heun Exponential", "DPM++ 2M SDE Heun", "exponential"),
        ("DPM++ 2M SDE Karras", "DPM++ 2M SDE", "karras"),
        ("Euler SGM Uniform", "Euler", "sgm_uniform"),
        ("Euler SGMUniform", "Euler", "sgm_uniform"),
        ("k_dpmpp_2m_ka", "DPM++ 2M", "karras"),
        ("DDIM", "DDIM", None),
        ("DDIM CFG++", "DDIM CFG++", None),
    ],
)
def test_samplers(name: str, sampler: str, scheduler: str | None) -> None:
    found = find_sampler(name)
    assert found is not None
    assert (found[0].name, found[1]) == (sampler, scheduler)


@pytest.mark.parametrize("name", ["", "Karras", "Eulera", "Euler a Karras Karras", "DPM", "_ka"])
def test_unknown_samplers(name: str) -> None:
    assert find_sampler(name) is None


@pytest.mark.parametrize("ending", [scheduler.label for scheduler in SCHEDULERS])
def test_every_sampler_with_every_ending(ending: str) -> None:
    for sampler in SAMPLERS:
        for name in (sampler.name, *sampler.aliases):
            found = find_sampler(f"{name} {ending}")
            assert found is not None
            scheduler = find_scheduler(ending)
            assert scheduler is not None
            assert found == (sampler, scheduler.name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("automatic", "automatic"),
        ("Automatic", "automatic"),
        ("SGM Uniform", "sgm_uniform"),
        ("sgmuniform", "sgm_uniform"),
        ("KARRAS", "karras"),
        ("Align Your Steps", "align_your_steps"),
    ],
)
def test_schedules(name: str, expected: str) -> None:
    found = find_scheduler(name)
    assert found is not None
    assert found.name == expected


def test_unknown_schedules() -> None:
    assert find_scheduler("") is None
    assert find_scheduler("Euler a") is None


def test_names_are_distinct() -> None:
    for rows in (SAMPLERS, SCHEDULERS):
        assert len({row.name for row in rows}) == len(rows)
    names = [name.casefold() for s in SAMPLERS for name in (s.name, *s.aliases)]
    assert {name for name in names if names.count(name) > 1} <= {
        s.name.casefold() for s in SAMPLERS
    }
    for sampler in SAMPLERS:
        assert find_scheduler(sampler.default_scheduler) is not None

"""docs/image-models.md says which sampler is which class of diffusers, and names every limit.

python tests/unit/test_image_models_page.py    prints the tables as they have to be
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from services.image.engines.diffusers_families import FAMILIES
from services.image.engines.diffusers_schedules import FLOW_TABLE, SCHEDULES, TABLE, Solver
from services.image.limits import Limits
from services.image.samplers import SAMPLERS
from services.image.samplers import SCHEDULERS as NAMES

PAGE = Path(__file__).parents[2] / "docs" / "image-models.md"


def code(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def sampler_row(solver: Solver) -> str:
    aliases = next(known.aliases for known in SAMPLERS if known.name == solver.sampler)
    cells = [
        f"`{solver.sampler}`",
        code(aliases),
        f"`{solver.label}`",
        code([solver.default_schedule]) if solver.default_schedule != "automatic" else "its own",
        schedules(solver),
        code(sorted(solver.tuning)) or "–",
    ]
    return f"| {' | '.join(cells)} |"


def schedules(solver: Solver) -> str:
    missing = [name for name in SCHEDULES if name not in {*solver.schedules, "automatic"}]
    if not solver.schedules:
        return "–"
    if len(missing) <= 3:
        return f"all but {code(missing)}" if missing else "all"
    return code(solver.schedules)


def schedule_row(name: str) -> str:
    known = next(each for each in NAMES if each.name == name)
    said = SCHEDULES[name].items()
    settings = ", ".join(f"{key}={value!r}" for key, value in said if value is not False)
    return (
        f"| `{name}` | {known.label} | {f'`{settings}`' if settings else 'as the model has it'} |"
    )


def tables() -> dict[str, list[str]]:
    return {
        "Models that predict noise or velocity": [sampler_row(solver) for solver in TABLE],
        "Flow-matching models": [sampler_row(solver) for solver in FLOW_TABLE],
        "Schedules": [schedule_row(name) for name in SCHEDULES],
    }


def not_offered(offered: Iterable[str], known: Iterable[str]) -> str:
    there = set(offered)
    return code(name for name in known if name not in there)


def on_page(title: str) -> list[str]:
    """The rows of the table below a heading."""
    lines = PAGE.read_text("utf-8").split(f"### {title}\n", 1)[1].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("|---"))
    end = next(at for at, line in enumerate(lines) if at > start and not line.startswith("|"))
    return lines[start + 1 : end]


def test_the_tables_are_those_of_the_engine() -> None:
    for title, rows in tables().items():
        assert on_page(title) == rows


def test_names_without_a_class_are_said_to_have_none() -> None:
    page = PAGE.read_text("utf-8")
    offered = {solver.sampler for solver in TABLE}
    assert not_offered(offered, (known.name for known in SAMPLERS)) in page
    assert not_offered(SCHEDULES, (known.name for known in NAMES)) in page


def test_every_class_of_pipelines_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    classes = {kind for family in FAMILIES for kind in (family.name, *family.kinds)}
    assert {kind for kind in classes if f"`{kind}`" not in page} == set()


def test_every_limit_is_on_the_page() -> None:
    page = PAGE.read_text("utf-8")
    assert {name for name in Limits.__slots__ if f"`{name}`" not in page} == set()


if __name__ == "__main__":
    for title, rows in tables().items():
        print(f"### {title}\n", *rows, "", sep="\n")
    print(not_offered({solver.sampler for solver in TABLE}, (known.name for known in SAMPLERS)))
    print(not_offered(SCHEDULES, (known.name for known in NAMES)))

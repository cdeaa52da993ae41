"""Draws with our service and with plain calls, side by side, and reports seconds and ratios."""

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.image.jobs import Job, job
from benchmarks.image.report import ALONE, EIGHT, TOGETHER, Contestant, contestants, render
from benchmarks.image.served import Way, serving
from benchmarks.machine import described
from benchmarks.processes import REPOSITORY, Child, ChildError

_MODEL = REPOSITORY / "starters" / "image" / "model"
_PATIENT_S = 1800.0
_CALLERS = 8
_ALONE = 2
"""Images that one caller draws, one after the other, in each round."""

Draw = Callable[[Job], Awaitable[float]]
"""Draws a job and returns its seconds."""


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    side: int = 512
    steps: int = 20
    dtypes: tuple[str, ...] = ("bfloat16", "float32")
    model: Path = _MODEL


QUICK = Options(rounds=1, side=256, steps=10, dtypes=("float32",))


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    if not (options.model / "model_index.json").is_file():
        raise ChildError(f"there is no pipeline in {options.model}: `make starter-image` makes it")
    taking_part = contestants(options.dtypes)
    samples: dict[tuple[str, str], list[float]] = {}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        draws: dict[str, Draw] = {}
        for one in taking_part:
            say(f"loading {one.name}")
            draws[one.name] = await _start(stack, one, folder, options)
        for number in range(1, options.rounds + 1):
            for one in taking_part:
                say(f"round {number}, {one.name}")
                await _round(samples, one, draws[one.name], number, options)
    note = (
        f"{options.rounds} rounds, {options.side}×{options.side}, {options.steps} steps with "
        f"guidance, PNG, {options.model.parent.name}/{options.model.name}, {described()}."
    )
    return render(samples, taking_part, note)


async def _start(stack: AsyncExitStack, one: Contestant, folder: Path, options: Options) -> Draw:
    first = job(1, 0, options.side, options.steps)
    if one.batching:
        way = Way(one.dtype, one.batching)
        service = await stack.enter_async_context(serving(folder, options.model, way))
        await service.ready(first)
        return service.seconds
    child = await Child.module(
        one.name,
        "benchmarks.image.worker",
        folder,
        str(options.model),
        one.dtype,
        env={"HF_HUB_OFFLINE": "1"},
        ready_s=_PATIENT_S,
    )
    stack.push_async_callback(child.stop)

    async def draw(asked: Job) -> float:
        answer = await child.ask(asked.to_wire(), _PATIENT_S)
        return answer["seconds"]

    await draw(first)
    return draw


async def _round(
    samples: dict[tuple[str, str], list[float]],
    one: Contestant,
    draw: Draw,
    number: int,
    options: Options,
) -> None:
    """Measures one contestant: alone, with eight callers, and plain calls with all in one."""

    async def measure(what: str, callers: int, times: int = 1, *, together: bool = False) -> None:
        taken = 0.0
        for at in range(times):
            asked = job(callers, 10 * number + at, options.side, options.steps, together=together)
            taken += await draw(asked)
        samples.setdefault((one.name, what), []).append(taken / (callers * times))

    await measure(ALONE, 1, _ALONE)
    await measure(EIGHT, _CALLERS)
    if not one.batching:
        await measure(TOGETHER, _CALLERS, together=True)

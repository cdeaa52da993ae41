"""Chats with and without a training job beside them, and trains a small job by itself."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from penstock.training.v1 import job_pb2

from benchmarks.machine import described
from benchmarks.processes import ChildError
from benchmarks.training.company import lines, questions
from benchmarks.training.report import ALONE, BESIDE, Lesson, render
from benchmarks.training.served import MODEL, Served, serving

_LONG_EPOCHS = 50
_LONG_LINES = 2000
"""More than is trained while chats are measured."""
_SETTLED_STEPS = 3


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    callers: tuple[int, ...] = (1, 8)
    new_tokens: int = 512
    seconds: float = 20.0
    """Least time for which chats are measured, for each number of callers."""
    lines: int = 200


QUICK = Options(rounds=1, new_tokens=128, seconds=8.0, lines=40)


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    samples: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with serving(Path(folder)) as served:
            say("loading")
            await served.answer(MODEL, "Hello!")
            say(f"training on {options.lines} lines")
            lesson = await _lesson(served, options)
            many = [line for seed in range(_LONG_LINES // 200) for line in lines(200, seed)]
            file = await served.upload(many)
            for number in range(1, options.rounds + 1):
                say(f"round {number}, alone")
                await _round(samples, served, options, ALONE)
                say(f"round {number}, beside a job")
                await _beside(samples, served, options, file)
    cores = len(os.sched_getaffinity(0))
    note = (
        f"{options.rounds} rounds of {options.new_tokens} new tokens a caller, gRPC, {MODEL}, "
        f"LoRA, default settings: {max(1, cores - 1)} threads of niceness 10 train; {described()}."
    )
    return render(samples, lesson, cores, max(1, cores - 1), note)


async def _lesson(served: Served, options: Options) -> Lesson:
    asked = questions()
    before = [key in await served.answer(MODEL, question) for question, key in asked]
    start = time.perf_counter()
    file = await served.upload(lines(options.lines))
    job = await served.ended(await served.start(_job(file)))
    model = job.fine_tuned_model
    await served.answer(model, "Hello!", 1)
    seconds = time.perf_counter() - start
    right = [key in await served.answer(model, question) for question, key in asked]
    return Lesson(
        lines=options.lines,
        seconds=seconds,
        training_s=(job.end_time.ToNanoseconds() - job.start_time.ToNanoseconds()) / 1e9,
        steps=job.step_count,
        epochs=job.effective_hyperparameters.epoch_count,
        tokens=job.trained_token_count,
        right=sum(right),
        asked=len(asked),
        right_before=sum(before),
    )


async def _beside(
    samples: dict[tuple[str, int], list[float]], served: Served, options: Options, file: str
) -> None:
    job = _job(file)
    job.hyperparameters.epoch_count = _LONG_EPOCHS
    name = await served.start(job)
    try:
        before = await served.training(name, _SETTLED_STEPS)
        await _round(samples, served, options, BESIDE)
        after = await served.job(name)
        if after.state != job_pb2.Job.STATE_RUNNING or after.step <= before.step:
            raise ChildError("the job did not train while the chats were measured")
    finally:
        await served.cancel(name)


async def _round(
    samples: dict[tuple[str, int], list[float]], served: Served, options: Options, way: str
) -> None:
    for callers in options.callers:
        rates: list[float] = []
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            rates.append(await served.decode_rate(callers, options.new_tokens))
        samples.setdefault((way, callers), []).append(median(rates))


def _job(file: str) -> job_pb2.Job:
    return job_pb2.Job(base_model=MODEL, training_file=file, suffix="bench", seed=1)

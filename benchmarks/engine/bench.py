"""Runs contestants side by side and reports tokens a second, latencies and marks."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.engine import weights
from benchmarks.engine.jobs import (
    Job,
    Times,
    busy,
    decode_rate,
    first_token_ms,
    gap_ms,
    prefill_rate,
    prompt,
    to_wire,
    together,
)
from benchmarks.engine.number_type import NAME
from benchmarks.engine.worker import installed
from benchmarks.machine import described
from benchmarks.processes import Child

TITLES = {
    "torch": "Penstock, torch engine",
    "openvino": "Penstock, OpenVINO engine",
    "continuous": "transformers, continuous batching",
    "static": "transformers, `generate`, static batch",
    "llamacpp": "llama.cpp, one batch",
    "raw-openvino": "OpenVINO GenAI itself",
}
CALLERS = (1, 8, 32)
_OWN = ("torch", "openvino")
_PATIENT_S = 600.0


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    new_tokens: int = 48
    only: Sequence[str] = ()


QUICK = Options(rounds=1, new_tokens=16)

Samples = dict[tuple[str, str], list[float]]
"""Figures of each round, by contestant and what was measured."""


class Bench:
    """Contestants that are loaded, and what was measured of them."""

    def __init__(self, children: Mapping[str, Child], options: Options) -> None:
        self._children = children
        self._options = options
        self.samples: Samples = {}

    async def times(self, name: str, jobs: Sequence[Job]) -> Times:
        """Has a contestant run jobs."""
        answer = await self._children[name].ask({"jobs": to_wire(jobs)}, _PATIENT_S)
        times: Times = answer["times"]
        return times

    def note(self, name: str, figure: str, value: float) -> None:
        """Keeps a figure of this round."""
        self.samples.setdefault((name, figure), []).append(value)

    async def round(self, seed: int, say: Callable[[str], None]) -> None:
        """Measures each scenario, contestants in turn."""
        for callers in CALLERS:
            for name in self._children:
                say(f"round {seed}, {callers} callers, {name}")
                jobs = together(callers, seed, new=self._options.new_tokens)
                times = await self.times(name, jobs)
                self.note(name, f"decode {callers}", decode_rate(times))
                self.note(name, f"prefill {callers}", prefill_rate(jobs, times))
        for name in self._children:
            say(f"round {seed}, long prompts beside 8 callers, {name}")
            jobs = busy(seed)
            times = await self.times(name, jobs)
            self.note(name, "first p50", first_token_ms(jobs, times, 0.5))
            self.note(name, "first p99", first_token_ms(jobs, times, 0.99))
            self.note(name, "gap p99", gap_ms(jobs, times, 0.99))
        for name in set(_OWN) & self._children.keys():
            await self._own(name, seed, say)

    async def _own(self, name: str, seed: int, say: Callable[[str], None]) -> None:
        say(f"round {seed}, repeated prompt, {name}")
        again = [Job(0.0, prompt(1000, f"again {seed}"), 2)]
        cold, warm = [(await self.times(name, again))[0][0] for _ in range(2)]
        self.note(name, "repeated prompt", cold / warm)
        if name == "torch":
            say(f"round {seed}, held to a schema, {name}")
            rates = [
                decode_rate(await self.times(name, together(8, seed, new=128, guided=guided)))
                for guided in (False, True)
            ]
            self.note(name, "guided", rates[1] / rates[0])


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    chosen = [name for name in TITLES if not options.only or name in options.only]
    missing = [name for name in chosen if not installed(name)]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        model = folder / "model"
        say("random weights")
        weights.make(model)
        children: dict[str, Child] = {}
        for name in chosen:
            if name in missing:
                continue
            say(f"loading {name}")
            children[name] = await Child.module(
                name, "benchmarks.engine.worker", folder, name, str(model), ready_s=_PATIENT_S
            )
            stack.push_async_callback(children[name].stop)
        bench = Bench(children, options)
        for name in children:
            await bench.times(name, together(max(CALLERS), 0, new=8))  # warms up
        for seed in range(1, options.rounds + 1):
            await bench.round(seed, say)
        read = await next(iter(children.values())).ask({"bandwidth": True}, _PATIENT_S)
        size = (model / "model.safetensors").stat().st_size
        return render(bench.samples, list(children), missing, read["bytes_per_s"], size, options)


def render(
    samples: Samples,
    contestants: Sequence[str],
    missing: Sequence[str],
    bandwidth: float,
    size: int,
    options: Options,
) -> str:
    """The report.

    Args:
        samples: what was measured.
        contestants: who took part.
        missing: who is not installed.
        bandwidth: bytes a second that memory is read at.
        size: bytes of the weights.
        options: how much was measured.
    """

    def figure(name: str, what: str) -> float | None:
        found = samples.get((name, what))
        return median(found) if found else None

    def cell(name: str, what: str, form: str = "{:,.0f}") -> str:
        found = figure(name, what)
        return "–" if found is None else form.format(found)

    lines = ["### Tokens a second: decode at 1 / 8 / 32 callers; prompts at 32", ""]
    lines += ["| Engine | 1 | 8 | 32 | prompts |", "|---|---|---|---|---|"]
    for name in contestants:
        cells = [cell(name, f"decode {callers}") for callers in CALLERS]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} | {cell(name, 'prefill 32')} |")
    limits = [f"{bandwidth / size * callers:,.0f}" for callers in CALLERS]
    lines.append(f"| *reading the weights once a step* | {' | '.join(limits)} | |")
    lines += ["", "### Eight prompts of 1,000 tokens beside 8 running callers, ms", ""]
    lines += ["| Engine | first token p50 | p99 | between tokens p99 |", "|---|---|---|---|"]
    lines += [
        f"| {TITLES[name]} | {cell(name, 'first p50')} | {cell(name, 'first p99')} "
        f"| {cell(name, 'gap p99')} |"
        for name in contestants
        if figure(name, "gap p99") is not None
    ]
    lines += ["", "### Marks", "", "| | measured | mark | |", "|---|---|---|---|"]
    lines += [_mark(*mark) for mark in _marks(figure)]
    lines += [
        "",
        f"{NAME}, {options.rounds} rounds, memory read at {bandwidth / 1e9:.1f} GB/s, "
        f"{described()}.",
    ]
    lines += [f"Not installed: {TITLES[name]} (`make bench-peers`)." for name in missing]
    return "\n".join(lines)


def _marks(figure: Callable[[str, str], float | None]) -> list[tuple[str, float, float]]:
    wanted = [("llamacpp", {1: 0.8, 8: 1.0, 32: 1.6}), ("continuous", dict.fromkeys(CALLERS, 1.4))]
    found: list[tuple[str, float, float]] = []
    for peer, targets in wanted:
        for callers, target in targets.items():
            ours, theirs = (figure(n, f"decode {callers}") for n in ("torch", peer))
            if ours and theirs:
                title = f"decode, {callers} callers: ours / {TITLES[peer]}"
                found.append((title, ours / theirs, target))
    for callers in CALLERS:
        ours, theirs = (figure(n, f"decode {callers}") for n in ("openvino", "raw-openvino"))
        if ours and theirs:
            found.append((f"decode, {callers} callers: our OpenVINO / raw", ours / theirs, 0.95))
    for what, title, target in (
        ("repeated prompt", "first token of a repeated 1,000-token prompt: cold / warm", 5.0),
        ("guided", "decode, 8 callers: held to a schema / free", 0.9),
    ):
        if (ratio := figure("torch", what)) is not None:
            found.append((title, ratio, target))
    return found


def _mark(title: str, ratio: float, target: float) -> str:
    return f"| {title} | {ratio:.2f} × | {target} × | {'pass' if ratio >= target else 'FAIL'} |"

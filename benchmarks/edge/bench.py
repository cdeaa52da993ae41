"""The edge's benchmark: starts everything, measures, reports, stops everything."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.edge.contestants import OURS, start_all
from benchmarks.edge.gates import Gate, check_gates
from benchmarks.edge.measure import SCENARIOS, measure
from benchmarks.edge.report import render
from benchmarks.machine import described
from benchmarks.processes import Child


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 5
    window_share: float = 1.0
    """Scales the time that is measured in each round."""
    probe_count: int = 20
    only_edges: Sequence[str] = ()
    only_scenarios: Sequence[str] = ()
    gates: bool = True


QUICK = Options(rounds=1, window_share=0.5, probe_count=5)
"""Shows that everything works; its figures are rough."""


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    began = time.monotonic()
    scenarios = [
        replace(
            s,
            window_s=s.window_s * options.window_share,
            probes=min(s.probes, options.probe_count),
        )
        for s in SCENARIOS
        if not options.only_scenarios or s.name in options.only_scenarios
    ]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        engine = await Child.module("engine", "benchmarks.edge.engine", folder)
        stack.push_async_callback(engine.stop)
        load = await Child.module("load", "benchmarks.edge.load", folder)
        stack.push_async_callback(load.stop)
        contestants, notes = await start_all(stack, engine, folder, options.only_edges)
        results = await measure(load, contestants, scenarios, options.rounds, say)
        gates: list[Gate] = []
        ours = next((c for c in contestants if c.name == OURS), None)
        if options.gates and ours is not None:
            say("gates")
            gates = await check_gates(load, engine, ours, max(2, options.rounds // 2))
        notes.append(f"{options.rounds} rounds, {time.monotonic() - began:.0f} s, {described()}.")
        return render(results, gates, notes)

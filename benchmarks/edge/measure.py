"""Runs every edge through every scenario, in turn, and keeps what was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.edge.contestants import Contestant
from benchmarks.edge.pacing import Pace
from benchmarks.processes import Child

_SETTLE_S = 0.25
_JOB_S = 90.0


@dataclass(frozen=True)
class Scenario:
    """One kind of load."""

    name: str
    title: str
    clients: int
    pace: Pace | None
    """How streams come; None is whole answers."""
    probes: int = 0
    """Further streams whose first event is timed."""
    window_s: float = 0.8
    """Time that is measured."""


PACED_1 = Scenario("paced-1", "paced, 1 stream", 1, Pace.PACED, probes=20)
PACED_32 = Scenario("paced-32", "paced, 32 streams", 32, Pace.PACED, probes=20)
PACED_256 = Scenario("paced-256", "paced, 256 streams", 256, Pace.PACED, probes=20)
PACED_1024 = Scenario("paced-1024", "paced, 1,024 streams", 1024, Pace.PACED)
FLOOD_32 = Scenario("flood-32", "flood, 32 streams", 32, Pace.FLOOD)
UNARY_32 = Scenario("unary-32", "whole answers, 32 connections", 32, None)
SCENARIOS = (PACED_1, PACED_32, PACED_256, PACED_1024, FLOOD_32, UNARY_32)


@dataclass
class Figures:
    """What one edge did in one scenario, round by round."""

    edge_us: list[float] = field(default_factory=list[float])
    """CPU time of the edge, per token or answer."""
    both_us: list[float] = field(default_factory=list[float])
    """CPU time of edge and engine."""
    rate: list[float] = field(default_factory=list[float])
    """Tokens or answers per second of wall-clock time."""
    load: list[float] = field(default_factory=list[float])
    """Cores that the edge used."""
    firsts: list[float] = field(default_factory=list[float])
    """Seconds to the first event, of every probe."""
    lost: int = 0
    """Streams that broke off."""

    def add(self, answer: dict[str, Any]) -> None:
        """Takes what the load generator measured in a round."""
        count, seconds = max(1, answer["count"]), answer["seconds"]
        self.edge_us.append(answer["edge"] / count * 1e6)
        self.both_us.append((answer["edge"] + answer["engine"]) / count * 1e6)
        self.rate.append(count / seconds)
        self.load.append(answer["edge"] / seconds)
        self.firsts += answer["firsts"]
        self.lost += answer["lost"]

    def edge(self) -> float:
        """Median CPU microseconds of the edge."""
        return median(self.edge_us)

    def both(self) -> float:
        """Median CPU microseconds of edge and engine."""
        return median(self.both_us)


Results = dict[tuple[str, str], Figures]
"""By the names of scenario and edge."""


async def measure(
    load: Child,
    contestants: Sequence[Contestant],
    scenarios: Sequence[Scenario],
    rounds: int,
    say: Callable[[str], None],
) -> Results:
    """Runs all rounds. The edges follow one another in each, so that all meet the same noise."""
    results: Results = {
        (scenario.name, contestant.name): Figures()
        for scenario in scenarios
        for contestant in contestants
        if contestant.scenarios is None or scenario.name in contestant.scenarios
    }
    for number in range(rounds):
        turn = number % len(contestants)
        order = [*contestants[turn:], *contestants[:turn]]
        for scenario in scenarios:
            for contestant in order:
                figures = results.get((scenario.name, contestant.name))
                if figures is None:
                    continue
                answer = await load.ask(_job(scenario, contestant), _JOB_S)
                figures.add(answer)
                say(
                    f"round {number + 1}/{rounds}  {scenario.name:<10}  {contestant.name:<8}  "
                    f"edge {figures.edge_us[-1]:7.1f} µs  with engine {figures.both_us[-1]:7.1f} µs"
                )
    return results


def _job(scenario: Scenario, contestant: Contestant) -> dict[str, Any]:
    pids = {"edge": contestant.pid, "engine": contestant.engine_pid}
    times = {"settle_s": _SETTLE_S, "window_s": scenario.window_s}
    if scenario.pace is None:
        return contestant.job("unary", connections=scenario.clients, pids=pids, **times)
    return contestant.job(
        "stream",
        streams=scenario.clients,
        pace=scenario.pace,
        probes=scenario.probes,
        pids=pids,
        **times,
    )

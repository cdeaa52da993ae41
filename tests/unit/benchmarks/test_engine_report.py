from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.engine.arrivals import Arrivals
from benchmarks.engine.bench import CALLERS, TITLES, Options, Samples, render
from benchmarks.engine.jobs import (
    Job,
    busy,
    decode_rate,
    first_token_ms,
    from_wire,
    gap_ms,
    prefill_rate,
    to_wire,
    together,
)
from benchmarks.engine.slots import Entry, serve

OTHERS = [name for name in TITLES if name != "torch"]


def samples() -> Samples:
    found: Samples = {}
    for place, name in enumerate(TITLES):
        for callers in CALLERS:
            found[name, f"decode {callers}"] = [1.0, 100.0 * callers / (place + 1), 1e9]
        found[name, "prefill 32"] = [1234.0]
        for figure in ("first p50", "first p99", "gap p99"):
            found[name, figure] = [100.0 * (place + 1)]
    found["torch", "repeated prompt"] = [12.0]
    found["torch", "guided"] = [0.89]
    return found


def rows(report: str) -> list[list[str]]:
    lines = [line for line in report.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_report_sets_every_engine_beside_the_others() -> None:
    report = render(samples(), list(TITLES), [], 1e9, 10**7, Options())
    for title in TITLES.values():
        rates, latencies = (row for row in rows(report) if row[0] == title)
        assert len(rates) == 5
        assert rates[4] == "1,234"
        assert len(latencies) == 4
    assert ["*reading the weights once a step*", "100", "800", "3,200", ""] in rows(report)
    marks = {row[0]: row[1:] for row in rows(report) if row[-1] in ("pass", "FAIL")}
    assert len(marks) == 3 + 3 + 3 + 2
    assert marks["decode, 1 callers: ours / llama.cpp, one batch"] == ["5.00 ×", "0.8 ×", "pass"]
    assert marks["decode, 8 callers: held to a schema / free"] == ["0.89 ×", "0.9 ×", "FAIL"]


def test_who_is_not_there_is_named() -> None:
    found = {key: value for key, value in samples().items() if key[0] != "llamacpp"}
    names = [name for name in TITLES if name != "llamacpp"]
    report = render(found, names, ["llamacpp"], 1e9, 10**7, Options())
    assert "Not installed: llama.cpp, one batch (`make bench-peers`)." in report
    assert "ours / llama.cpp" not in report


def test_figures() -> None:
    jobs = [Job(0.0, [1] * 10, 3), Job(0.0, [1] * 30, 3), Job(1.0, [1], 2)]
    times = [[0.5, 1.0, 1.5], [1.0, 2.0, 3.0], [1.5, 1.6]]
    assert decode_rate(times[:2]) == pytest.approx(3 / 2)
    assert prefill_rate(jobs[:2], times[:2]) == pytest.approx(40)
    assert first_token_ms(jobs, times, 0.5) == pytest.approx(500)
    assert gap_ms(jobs, times, 0.99) == pytest.approx(1000)
    assert from_wire(to_wire(busy(1))) == busy(1)


class Clock:
    """A clock that only sleeping moves, and each look by a little."""

    def __init__(self) -> None:
        self.at = 5.0

    def __call__(self) -> float:
        self.at += 0.001
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_jobs_are_taken_when_they_come() -> None:
    clock = Clock()
    jobs = [Job(at, [1], 1) for at in (2.0, 0.0, 1.0, 0.0)]
    arrivals = Arrivals(jobs, clock, clock.sleep)
    assert arrivals.take(1, wait=False) == [1]
    assert arrivals.take(9, wait=False) == [3]
    assert arrivals.take(9, wait=False) == []
    assert arrivals.take(9, wait=True) == [2]
    assert arrivals.now() == pytest.approx(1, abs=0.1)
    assert arrivals
    assert arrivals.take(9, wait=True) == [0]
    assert not arrivals
    assert arrivals.take(9, wait=True) == []


@given(
    wanted=st.lists(
        st.tuples(st.floats(0, 0.2), st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=9
    ),
    slots=st.integers(1, 4),
    batch=st.integers(5, 30),
)
def test_callers_share_batches(
    wanted: list[tuple[float, int, int]], slots: int, batch: int
) -> None:
    clock = Clock()
    tokens = count(1000)
    jobs = [Job(at, [next(tokens) for _ in range(size)], new) for at, size, new in wanted]
    owner = {token: place for place, job in enumerate(jobs) for token in job.prompt}
    computed: dict[int, list[int]] = {}  # by sequence
    finished: list[list[int]] = []

    def decode(entries: list[Entry]) -> dict[int, int]:
        assert 0 < len(entries) <= batch
        chosen: dict[int, int] = {}
        for token, place, sequence, last in entries:
            held = computed.setdefault(sequence, [])
            assert place == len(held)
            held.append(token)
            if last:
                chosen[sequence] = owner[held[0]]  # every job says its own number
        assert len(computed) <= slots
        return chosen

    def drop(sequence: int) -> None:
        finished.append(computed.pop(sequence))

    arrivals = Arrivals(jobs, clock, clock.sleep)
    times = serve(jobs, decode, drop, slots=slots, batch=batch, arrivals=arrivals)  # type: ignore[arg-type]
    assert [len(each) for each in times] == [job.tokens for job in jobs]
    assert all(
        each == sorted(each) and each[0] > job.at_s for each, job in zip(times, jobs, strict=True)
    )
    expected = sorted([*job.prompt, *[place] * (job.tokens - 1)] for place, job in enumerate(jobs))
    assert sorted(finished) == expected


def test_together_means_at_once() -> None:
    jobs = together(8, 3, new=4)
    assert {(job.at_s, len(job.prompt), job.tokens) for job in jobs} == {(0.0, 32, 4)}
    assert len({tuple(job.prompt) for job in jobs}) == 8

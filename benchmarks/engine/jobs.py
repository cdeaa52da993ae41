"""What contestants are asked to do, and what their tokens' times say."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from random import Random
from typing import Any

from benchmarks.edge.quantiles import quantile

VOCABULARY = 49_152
_FIRST = 300  # leaves special tokens out of prompts


@dataclass(frozen=True)
class Job:
    """One caller: when it comes (seconds after the start), its prompt, and how much it wants."""

    at_s: float
    prompt: list[int]
    tokens: int
    guided: bool = False
    """Held to a JSON schema; only our own engines are asked so."""


Times = list[list[float]]
"""For each job the arrival of each token, in seconds after the start."""


def prompt(length: int, seed: str) -> list[int]:
    """Random tokens; the same for the same seed."""
    return Random(seed).choices(range(_FIRST, VOCABULARY), k=length)


def together(callers: int, seed: int, *, new: int = 48, guided: bool = False) -> list[Job]:
    """Callers with prompts of 32 tokens who come at once."""
    return [Job(0.0, prompt(32, f"{seed} {i}"), new, guided) for i in range(callers)]


def busy(seed: int, *, running: int = 8, new: int = 160, arrivals: int = 8) -> list[Job]:
    """Running streams, beside which prompts of 1,000 tokens arrive."""
    streams = together(running, seed, new=new)
    long = [Job(1.0 + 0.5 * i, prompt(1000, f"{seed} long {i}"), 8) for i in range(arrivals)]
    return streams + long


def to_wire(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as JSON."""
    return [asdict(job) for job in jobs]


def from_wire(jobs: Sequence[dict[str, Any]]) -> list[Job]:
    """Jobs from JSON."""
    return [Job(**job) for job in jobs]


def decode_rate(times: Times) -> float:
    """Tokens a second from the moment when every caller has a first token to the last token."""
    start = max(each[0] for each in times)
    end = max(each[-1] for each in times)
    later = sum(1 for each in times for at in each if at > start)
    return later / (end - start)


def prefill_rate(jobs: Sequence[Job], times: Times) -> float:
    """Prompt tokens a second until every caller has a first token."""
    return sum(len(job.prompt) for job in jobs) / max(each[0] for each in times)


def first_token_ms(jobs: Sequence[Job], times: Times, share: float) -> float:
    """Quantile of the time to the first token, of jobs that came later than the start."""
    waits = [each[0] - job.at_s for job, each in zip(jobs, times, strict=True) if job.at_s]
    return 1e3 * quantile(waits, share)


def gap_ms(jobs: Sequence[Job], times: Times, share: float) -> float:
    """Quantile of the time between two tokens, of the jobs that ran from the start."""
    gaps = [
        later - earlier
        for job, each in zip(jobs, times, strict=True)
        if not job.at_s
        for earlier, later in pairwise(each)
    ]
    return 1e3 * quantile(gaps, share)

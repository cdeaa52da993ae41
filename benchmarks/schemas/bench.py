"""The benchmark of schemas: one request decoded by the edge's own, and by equal pydantic models."""

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.machine import described
from benchmarks.schemas.bodies import bodies
from benchmarks.schemas.report import MSGSPEC, PARSED, PYDANTIC, render
from gateway.dialects.openai.schema import ChatCompletionRequest
from gateway.validation import decode

Decode = Callable[[bytes], Any]


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 30
    round_s: float = 0.1
    """CPU time of each contestant in a round, about."""


QUICK = Options(rounds=3, round_s=0.01)
"""Shows that everything works; its figures are rough."""


async def run(options: Options, say: Callable[[str], None]) -> str:
    """Measures and returns the report."""
    began = time.monotonic()
    found = contestants()
    samples: dict[tuple[str, str], list[float]] = {}
    for title, body in bodies().items():
        say(f"schemas: {title}")
        counts = {name: _count(decoded, body, options.round_s) for name, decoded in found.items()}
        for _ in range(options.rounds):  # in turn, since rounds meet the same noise
            for name, decoded in found.items():
                seconds = _seconds(decoded, body, counts[name])
                samples.setdefault((name, title), []).append(seconds / counts[name] * 1e6)
    spent = time.monotonic() - began
    notes = [f"{options.rounds} rounds, {spent:.0f} s, {described()}."]
    if PYDANTIC not in found:
        notes.append("pydantic is not installed: its rows are missing.")
    return render(samples, notes)


def contestants() -> dict[str, Decode]:
    """What is measured, by name."""
    decoder = msgspec.json.Decoder(ChatCompletionRequest)
    found: dict[str, Decode] = {MSGSPEC: lambda body: decode(decoder, body)}
    if importlib.util.find_spec("pydantic"):
        from benchmarks.schemas.twin import twin

        model = twin(ChatCompletionRequest)
        found[PYDANTIC] = model.model_validate_json
        found[PARSED] = lambda body: model.model_validate(json.loads(body))
    return found


def _count(decoded: Decode, body: bytes, round_s: float) -> int:
    """Returns how often it decodes in that time, after a little practice."""
    _seconds(decoded, body, 10)
    return max(1, round(round_s / (_seconds(decoded, body, 10) / 10)))


def _seconds(decoded: Decode, body: bytes, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        decoded(body)
    return time.process_time() - began

"""Inference on tensors, and the account that is kept of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from policy.principals import Principal
from services.errors import DeadlineExceeded, InvalidArgument, QueueFull
from services.inference.engines.echo_tensors import EchoTensors
from services.inference.registry import ServedTensors
from services.inference.requests import Caller
from services.inference.tensor_engine import Inferred, Tensor
from services.inference.tensor_inference import infer
from services.metering import Unmetered, Work
from services.rpc.metering import Metering
from services.serving.models import ModelKind
from services.usage.journal import Journal, segments, taken
from services.usage.records import Record

GIVEN = Tensor("input", "FP32", (1,), bytes(4))
WORK = Work(Principal("someone", "someone", frozenset()), "req-1", "service/Infer", "")


class Gated(EchoTensors):
    """Answers when it is told to, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self._error = error

    async def infer(self, inputs: Sequence[Tensor], *, deadline: float | None = None) -> Inferred:
        self.begun.set()
        if self._error is not None:
            raise self._error
        await self.gate.wait()
        return await super().infer(inputs, deadline=deadline)


def served(engine: EchoTensors) -> ServedTensors:
    return ServedTensors("arrays", ModelKind.TENSOR, "models/arrays/revisions/1", engine)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "inference", most_bytes=0)


def records(journal: Journal) -> list[Record]:
    journal.rotate()
    found: list[Record] = []
    for path in segments(journal.folder):
        with taken(path) as segment:
            assert segment is not None
            found += segment.records
    return found


async def test_an_answer_is_one_record(journal: Journal) -> None:
    meter = Metering(journal)
    answer = await infer(served(EchoTensors()), [GIVEN], Caller(work=WORK), meter)
    assert answer.tensors[0].data == GIVEN.data
    [record] = records(journal)
    assert (record.principal, record.request_id, record.model) == ("someone", "req-1", "arrays")
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == ("ok", 0, 0)


async def test_one_that_is_cut_short_is_one_record(journal: Journal) -> None:
    engine = Gated()
    model = served(engine)
    task = asyncio.create_task(infer(model, [GIVEN], Caller(work=WORK), Metering(journal)))
    await engine.begun.wait()
    assert model.active == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.active == 0
    assert [record.outcome for record in records(journal)] == ["cancelled"]


@pytest.mark.parametrize(
    ("error", "outcomes"),
    [
        (DeadlineExceeded("late"), ["deadline_exceeded"]),
        (InvalidArgument("no"), ["failed"]),
        (RuntimeError("broken"), ["failed"]),
        (QueueFull("full"), []),
    ],
)
async def test_failures(journal: Journal, error: Exception, outcomes: list[str]) -> None:
    with pytest.raises(type(error)):
        await infer(served(Gated(error)), [GIVEN], Caller(work=WORK), Metering(journal))
    assert [record.outcome for record in records(journal)] == outcomes


async def test_what_is_refused_at_once_is_not_counted(journal: Journal) -> None:
    wrong = Tensor("other", "FP32", (1,), bytes(4))
    with pytest.raises(InvalidArgument):
        await infer(served(EchoTensors()), [wrong], Caller(work=WORK), Metering(journal))
    assert records(journal) == []
    await infer(served(EchoTensors()), [GIVEN], Caller(), Unmetered())

"""What the engine on Triton makes of answers to its orders, and of none."""

from __future__ import annotations

import json

import pytest

from services.errors import DeadlineExceeded, DomainError, Internal, InvalidArgument, QueueFull
from services.image.engines.triton_engine import ask, read_event
from services.settings import TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.hosted import HostedModel
from services.tritonserver.tensors import bytes_tensor
from tests.scripted_triton import ScriptedTriton


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.image.engines.triton_engine._ASK_S", 0.1)
    async with ScriptedTriton().running() as server:
        triton = Triton(TritonSettings(endpoints=(server.address,)))
        hosted = await HostedModel.open(triton, "m")
        with pytest.raises(DeadlineExceeded):
            await ask(hosted, {"op": "measure"})
        assert server.streams == ["m"]
        await hosted.close()
        await triton.close()


@pytest.mark.parametrize(
    ("event", "kind", "field", "retry_after_s"),
    [
        ({"reason": "QueueFull", "retry_after_s": 2.5}, QueueFull, None, 2.5),
        ({"reason": "QueueFull"}, QueueFull, None, None),  # of a model that was exported before
        ({"reason": "InvalidArgument", "field": "plan"}, InvalidArgument, "plan", None),
        ({"reason": "Exception"}, Internal, None, None),
        ({"reason": "Violation"}, Internal, None, None),
    ],
)
def test_failures_come_as_they_were(
    event: dict[str, object], kind: type[DomainError], field: str | None, retry_after_s: float
) -> None:
    told = {"type": "failed", "message": "No.", "field": "", **event}
    with pytest.raises(kind) as raised:
        read_event({"event": bytes_tensor("event", [json.dumps(told)])})
    assert (type(raised.value), raised.value.message) == (kind, "No.")
    assert (raised.value.field, raised.value.retry_after_s) == (field, retry_after_s)

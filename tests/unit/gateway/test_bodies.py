"""Bodies that come too slowly."""

from typing import Any

import pytest

from gateway import bodies
from gateway.bodies import body_pieces, read_body
from gateway.errors import ProblemError


class Clock:
    """A clock that goes on with each look."""

    def __init__(self, step_s: float) -> None:
        self._now, self._step_s = 0.0, step_s

    def monotonic(self) -> float:
        self._now += self._step_s
        return self._now


def pieces(*sizes: int) -> Any:
    left = list(sizes)

    async def receive() -> Any:
        size = left.pop(0)
        return {"type": "http.request", "body": b"a" * size, "more_body": bool(left)}

    return receive


async def drained(receive: Any) -> int:
    return sum([len(piece) async for piece in body_pieces({"headers": []}, receive, 10**9)])


async def whole(receive: Any) -> int:
    return len(await read_body({"headers": []}, receive, 10**9))


@pytest.mark.parametrize("read", [drained, whole])
async def test_drops_are_given_up(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "time", Clock(20.0))
    with pytest.raises(ProblemError) as raised:
        await read(pieces(*[100] * 50))
    assert raised.value.problem.status == 408


@pytest.mark.parametrize("read", [drained, whole])
async def test_large_bodies_may_take_long(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "time", Clock(20.0))
    assert await read(pieces(*[64 * 1024] * 50)) == 50 * 64 * 1024

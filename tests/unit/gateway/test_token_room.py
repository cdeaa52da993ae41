from __future__ import annotations

import pytest
from penstock.inference.v1 import sampling_pb2

from gateway.errors import Problem, ProblemError
from gateway.token_room import fitted


def exceeded(context: object, prompt: object) -> Problem:
    metadata = {"context_length": str(context), "prompt_tokens": str(prompt)}
    return Problem("CONTEXT_LENGTH_EXCEEDED", "x", "messages", metadata=metadata)


async def tried(
    problem: Problem, *, spare: bool = True, asked: int | None = 150
) -> tuple[int, int | None]:
    """Returns how often it was tried, and the last limit. It works if the limit was changed."""
    sampling = sampling_pb2.Sampling(max_tokens=asked)
    count = 0

    async def act() -> None:
        nonlocal count
        count += 1
        limit = sampling.max_tokens if sampling.HasField("max_tokens") else None
        if limit == asked:
            raise ProblemError(problem)

    await fitted(act, sampling, spare=spare)
    return count, sampling.max_tokens if sampling.HasField("max_tokens") else None


async def test_a_spare_limit_gives_way() -> None:
    assert await tried(exceeded(100, 60)) == (2, 40)
    assert await tried(Problem("INVALID_ARGUMENT", "x", "sampling.max_tokens")) == (2, None)


@pytest.mark.parametrize(
    ("problem", "spare", "asked"),
    [
        (exceeded(100, 60), False, 150),
        (exceeded(100, 100), True, 150),
        (exceeded(100, 200), True, 150),
        (exceeded(1000, 60), True, 150),
        (exceeded("many", 60), True, 150),
        (exceeded(100, 60), True, None),
        (Problem("CONTEXT_LENGTH_EXCEEDED", "x"), True, 150),
        (Problem("INVALID_ARGUMENT", "x", "sampling.top_p"), True, 150),
        (Problem("INVALID_ARGUMENT", "x", "sampling.max_tokens"), False, 150),
    ],
)
async def test_everything_else_stays_an_error(
    problem: Problem, spare: bool, asked: int | None
) -> None:
    with pytest.raises(ProblemError) as caught:
        await tried(problem, spare=spare, asked=asked)
    assert caught.value.problem is problem

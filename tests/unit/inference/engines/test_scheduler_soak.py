"""Twenty thousand requests of every kind over the symbolic memory, one seed, no clock."""

import random
from collections import Counter
from functools import partial

from services.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    DomainError,
    InvalidArgument,
    QueueFull,
)
from services.inference.engine import Ended, Failed, Priority
from services.inference.engines.sequences import GroupState
from tests.unit.inference.engines.scheduler_bench import EOS, Bench, request
from tests.unit.inference.engines.symbolic_memory import continuation

REQUESTS = 20_000
HUGE = 10_000


def test_twenty_thousand_requests_leave_nothing_behind() -> None:
    dice = random.Random(3)
    bench = Bench(
        slots=8, queue_limit=24, step_tokens=64, context=256, kv_tokens=900, speculative_tokens=4
    )
    refused: Counter[type[DomainError]] = Counter()
    ended: Counter[str] = Counter()
    alive: list[GroupState] = []
    touched: set[GroupState] = set()
    for _ in range(REQUESTS):
        try:
            alive.append(submit(bench, dice))
        except DomainError as error:
            refused[type(error)] += 1
        touch(bench, dice, alive, touched)
        for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
            between = partial(touch, bench, dice, alive, touched) if dice.random() < 0.3 else None
            bench.step(EOS if dice.random() < 0.01 else None, between)
        alive = settle(bench, alive, touched, ended)
    for group in alive:
        bench.scheduler.resume(group)
    bench.run(100_000)
    assert settle(bench, alive, touched, ended) == []
    assert bench.counts() == (0, 0)
    assert bench.pool.owned == 0
    bench.scheduler.memory_lost(RuntimeError())
    assert len(bench.pool._index) == 0
    # Everything this test is about did happen.
    assert set(refused) == {QueueFull, ContextLengthExceeded, InvalidArgument}
    assert ended["answered"] > 1000
    assert ended["late"] > 100
    assert ended["reused"] > 100
    assert bench.drafted > bench.matched > 1000


def submit(bench: Bench, dice: random.Random) -> GroupState:
    length = dice.choice((1, 5, 20, 40, 90, HUGE if dice.random() < 0.05 else 120))
    sizes = [(length, dice.choice((0, 1, 3, 8, 30, 130)))] * dice.choice((1, 1, 1, 2, 4))
    if dice.random() < 0.01:
        sizes = []
    group = request(
        *sizes,
        principal=dice.choice("abc"),
        priority=dice.choice(list(Priority)),
        kind=dice.choice((1, 2, 3, None)),
        scored=dice.random() < 0.1,
        reuse=dice.random() < 0.9,
    )
    return bench.submit(group, bench.now + dice.uniform(0, 20) if dice.random() < 0.3 else None)


def touch(
    bench: Bench, dice: random.Random, alive: list[GroupState], touched: set[GroupState]
) -> None:
    if not alive or dice.random() < 0.7:
        return
    group = dice.choice(alive)
    action = dice.choice(("cancel", "finish", "pause", "resume", "resume", "fail"))
    if action == "pause":
        bench.scheduler.pause(group)
    elif action == "resume":
        bench.scheduler.resume(group)
    else:
        touched.add(group)
        if action == "cancel":
            bench.scheduler.cancel(group)
        elif action == "finish":
            bench.scheduler.finish(group, dice.randrange(4), bench.now)
        else:
            bench.scheduler.fail([group], RuntimeError("forward pass"))


def settle(
    bench: Bench, alive: list[GroupState], touched: set[GroupState], ended: Counter[str]
) -> list[GroupState]:
    """Checks groups that are over, and forgets them."""
    bench.take()
    for group in alive:
        if not group.over:
            continue
        events = bench.heard.pop(group)
        failure = events[-1].error if events and isinstance(events[-1], Failed) else None
        tokens = {event.index: [] for event in events if isinstance(event, Ended)}
        for event in events:
            if hasattr(event, "token_id") and event.index in tokens:
                tokens[event.index].append(event.token_id)
        for index, output in tokens.items():
            prompt = group.sequences[index].request.prompt
            assert output == continuation(prompt, len(output))
        if group in touched:
            touched.discard(group)
        elif failure is not None:
            assert isinstance(failure, DeadlineExceeded)
            ended["late"] += 1
        else:
            assert len(tokens) == len(group.sequences)
            ended["answered"] += 1
            ended["reused"] += any(s.cached_tokens for s in group.sequences)
    return [group for group in alive if not group.over]
